"""The actor that keeps a worker loop on a node of a Ray cluster.

    begin   ─▶ a child `embedmill worker …`, secrets on its stdin
    state   ─▶ which start it is, whether its loop runs, its exit code and last words
    leave   ─▶ the child finishes its batch and ends

Ray starts it again elsewhere when its node dies; it then has no order, and whoever drives the run sees that
and begins anew. Its constructor's arguments lie in the cluster's control store: no secret may be among them.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from embedmill.engines.ray.loop import Loop
from embedmill.spec.ray import GPU_MEMORY_LABEL, SERVER_LABEL

CANNOT_START = 126
LOOK_S = 1.0


class WorkerActor:
    """One worker loop of one run. `ray.remote` is applied where actors are made."""

    def __init__(self, worker: str, run: str, keep_s: float) -> None:
        """Wait for an order.

        Args:
            worker: The loop's name.
            run: The run's name, for people.
            keep_s: It ends itself when no loop runs and nobody has asked for so long.
        """
        self._worker, self._run, self._keep_s = worker, run, keep_s
        self._start: str | None = None
        self._loop: Loop | None = None
        self._refused = ""
        self._asked_s = time.monotonic()
        self._place = _place()
        threading.Thread(target=self._tell_for_ever, name="metrics", daemon=True).start()

    def __repr__(self) -> str:
        return f"embedmill worker {self._worker} of run {self._run}"

    def state(self) -> dict[str, Any]:
        """`start`: which start its loop is, None without an order; `exit_code`: None while it runs."""
        self._asked_s = time.monotonic()
        loop, told = self._loop, self._loop.progress if self._loop else {}
        code = loop.exit_code if loop is not None else CANNOT_START if self._refused else None
        return {
            "start": self._start,
            "exit_code": code,
            "said": self._refused or (loop.said if loop is not None and code is not None else ""),
            "node": self._place["node"],
            "rows_done": int(told.get("rows_done", 0)),
        }

    def begin(self, order: Mapping[str, Any], secrets: str) -> dict[str, Any]:
        """Start the loop, unless it runs.

        Args:
            order: `start` (a name for this start), `version` of Embedmill, `command`, `arguments`,
                `environment` and `memory_mib`.
            secrets: Goes to the loop's stdin.
        """
        if self._loop is not None and self._loop.exit_code is None:
            return self.state()
        self._start, self._loop, self._refused = order["start"], None, ""
        if order["version"] != (ours := version("embedmill")):
            self._refused = f"{self._where()} has embedmill {ours}, and the run {order['version']}"
            return self.state()
        command = [*(order["command"] or (sys.executable, "-m", "embedmill")), *order["arguments"]]
        command += ["--parent", str(os.getpid())]
        if self._place["gpu_memory_mib"]:
            command += ["--gpu-memory", self._place["gpu_memory_mib"]]
        command += [word for key, text in self._reported(order) for word in ("--where", f"{key}={text}")]
        environment = {name: text for name, text in os.environ.items() if not name.startswith("RAY_")}
        try:
            self._loop = Loop(command, {**environment, **order["environment"]}, secrets, order["memory_mib"])
        except OSError as error:
            self._refused = f"{self._where()}: {command[0]}: {error.strerror}"
        return self.state()

    def leave(self, grace_s: float) -> dict[str, Any]:
        """Ask the loop to stop; end it after `grace_s`."""
        if self._loop is not None:
            self._loop.stop(grace_s)
        return self.state()

    def _where(self) -> str:
        return self._place["server"]

    def _reported(self, order: Mapping[str, Any]) -> list[tuple[str, str]]:
        where = {"host": self._where(), "gpu": self._place["gpu"], "image": order.get("image", "")}
        return [(key, text) for key, text in where.items() if text]

    def _tell_for_ever(self) -> None:
        """What Ray's dashboard shows of the loop; and the end of an actor that nobody asks for any more."""
        from embedmill.engines.ray.metrics import Metrics

        metrics: Metrics | None = None
        while True:
            loop = self._loop
            with contextlib.suppress(Exception):  # what is shown must not keep an actor from its end
                metrics = metrics or Metrics(self._worker, self._run)
                metrics.tell(loop.progress if loop is not None else {}, runs=self._runs())
            if not self._runs() and time.monotonic() - self._asked_s > self._keep_s:
                with contextlib.suppress(Exception):  # the control store is away: it is tried again
                    _end_this_actor()
            time.sleep(LOOK_S)

    def _runs(self) -> bool:
        return self._loop is not None and self._loop.exit_code is None


def _place() -> dict[str, str]:
    """The node that this actor is on, as reports name it."""
    import ray

    context = ray.get_runtime_context()
    node = context.get_node_id()
    labels = context.get_node_labels()
    server = labels.get(SERVER_LABEL) or ray.util.get_node_ip_address()
    gpu = labels.get("ray.io/accelerator-type", "") if context.get_accelerator_ids().get("GPU") else ""
    limit = labels.get(GPU_MEMORY_LABEL, "")
    return {"node": node, "server": server, "gpu": gpu, "gpu_memory_mib": limit}


def _end_this_actor() -> None:
    """For good: an actor that only exits is started again."""
    import ray

    ray.kill(ray.get_runtime_context().current_actor, no_restart=True)
