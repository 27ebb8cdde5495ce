"""Worker loops on other hosts: there a holder takes the GPUs' locks, starts the loop and watches over it.

start ─▶ ssh HOST holder start ─▶ locks ─▶ the placement's command + `worker …`
                                              ▲ stdin: what the loop needs to open the store
states: what was last heard; hosts are asked in the background, every 2 s

No answer is not an end. A host that is silent for a minute counts as lost: its shards go to others, and
what it still commits afterwards is decided like any race, by the commit records.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

from embedmill.devices.reach import NO_PYTHON, SSH_FAILED, Answer, run_there
from embedmill.engines.multiplexing import Connections
from embedmill.types import Host, Placement, WorkerState

EVERY_S = 2.0
ANSWER_S = 20.0
SILENT_S = 60.0
GRACE_S = 10.0
PARALLEL = 32
GIVEN_BACK = 75
"""The exit code of a loop that yielded; here also of one that never had its GPU."""
CANNOT_START = 126
LOST = 255
Secrets = Callable[[], Mapping[str, str]]


def no_secrets() -> Mapping[str, str]:
    """For stores that need none."""
    return {}


@dataclass
class _Loop:
    """One start of a loop; `name` is what its host's holder calls it, unique to the run."""

    place: Placement
    name: str
    exit_code: int | None = None
    said: str = ""

    def end(self, exit_code: int, said: str) -> None:
        self.exit_code, self.said = exit_code, said

    @property
    def may_run(self) -> bool:
        """Whether its host may know of it."""
        return self.exit_code in {None, LOST}


@dataclass
class _Server:
    """A host, its loops by worker, and when it last answered."""

    host: Host
    heard_s: float
    asked_s: float = 0.0
    asking: Future[None] | None = None
    loops: dict[str, _Loop] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def running(self) -> list[_Loop]:
        return [loop for loop in self.loops.values() if loop.exit_code is None]


class SshEngine:
    """Loops that outlive this process; whoever starts them again under their names finds them running."""

    def __init__(
        self,
        secrets: Secrets = no_secrets,
        *,
        every_s: float = EVERY_S,
        silent_s: float = SILENT_S,
        answer_s: float = ANSWER_S,
        grace_s: float = GRACE_S,
    ) -> None:
        """Start nothing yet.

        Args:
            secrets: Environment variables that a loop needs to open the store; asked at every start, so
                that what expires is fresh.
            every_s: How often hosts are asked.
            silent_s: How long a host may say nothing until its loops count as lost.
            answer_s: How long one answer may take.
            grace_s: How long a loop may take to stop.
        """
        self._secrets, self._every_s, self._silent_s = secrets, every_s, silent_s
        self._answer_s, self._grace_s = answer_s, grace_s
        self._servers: dict[Host, _Server] = {}
        self._connections: Connections | None = None
        self._pool: ThreadPoolExecutor | None = None

    def start(self, run_url: str, placements: Sequence[Placement]) -> None:
        """Start a loop for each placement that has none running, on all hosts at once.

        A GPU that somebody else has by now is no failure: its loop counts as given back.

        Raises:
            EmbedmillError: There is nothing that loops could open the store with.
        """
        wanted: dict[Host, list[Placement]] = {}
        for place in placements:
            host = place.host or Host("here", (), "/var/tmp/embedmill")  # noqa: S108 - as in fleet.yaml
            if not self._runs(host, place.worker):
                wanted.setdefault(host, []).append(place)
        if not wanted:
            return
        secrets = dict(self._secrets())
        pool = self._opened()
        starts = []
        for host, places in wanted.items():
            server = self._servers.setdefault(host, _Server(host, time.monotonic()))
            server.heard_s = time.monotonic()
            starts.append(pool.submit(self._start, server, run_url, places, secrets))
        for each in starts:
            each.result()

    def states(self) -> list[WorkerState]:
        """What was heard last; hosts with running loops are asked again in the background."""
        now_s, found = time.monotonic(), []
        for server in self._servers.values():
            with server.lock:
                if now_s - server.heard_s > self._silent_s:
                    for loop in server.running():
                        loop.end(LOST, f"{server.host.name} gave no answer for {self._silent_s:.0f} s")
                self._ask_again(server, now_s)
                found += [WorkerState(name, loop.exit_code, loop.said) for name, loop in server.loops.items()]
        return found

    def stop(self) -> None:
        """SIGTERM, `grace_s` seconds, SIGKILL, on all hosts at once; a silent host's loops are left to it."""
        if self._pool is None:
            return
        stops = [self._pool.submit(self._stop, server) for server in self._servers.values()]
        wait(stops)
        self._pool.shutdown(cancel_futures=True)
        if self._connections is not None:
            self._connections.close()
        self._pool, self._connections = None, None
        self._servers.clear()

    # What is asked of holders

    def _start(
        self, server: _Server, run_url: str, places: Sequence[Placement], secrets: Mapping[str, str]
    ) -> None:
        for place in places:
            loop = _Loop(place, holder_name(run_url, place.worker))
            answer = self._holder(server, "start", holder_order(place, run_url, secrets, self._grace_s))
            _take_start(loop, answer, server.host)
            with server.lock:
                server.loops[place.worker] = loop
                if answer.reply is not None:
                    server.heard_s = time.monotonic()

    def _ask_again(self, server: _Server, now_s: float) -> None:
        """Ask for the states of its running loops, unless that was done just now or is being done."""
        busy = server.asking is not None and not server.asking.done()
        if self._pool is None or busy or now_s - server.asked_s < self._every_s or not server.running():
            return
        server.asked_s = now_s
        server.asking = self._pool.submit(self._ask, server, server.running())

    def _ask(self, server: _Server, loops: list[_Loop]) -> None:
        order = {"folder": server.host.folder, "workers": [loop.name for loop in loops]}
        reply = self._holder(server, "states", order).reply
        if reply is None:
            return
        with server.lock:
            server.heard_s = time.monotonic()
            _take_states(loops, reply)

    def _stop(self, server: _Server) -> None:
        with server.lock:
            loops = [loop for loop in server.loops.values() if loop.may_run]
        if loops:
            order = {"folder": server.host.folder, "workers": [loop.name for loop in loops]}
            lost = all(loop.exit_code == LOST for loop in loops)
            patience_s = self._answer_s / 4 if lost else self._answer_s
            self._holder(server, "stop", {**order, "grace_s": self._grace_s}, self._grace_s + patience_s)

    def _holder(
        self, server: _Server, action: str, order: Mapping[str, Any], timeout_s: float | None = None
    ) -> _Reply:
        connections = self._connections
        reach = connections.reach(server.host) if connections else server.host.reach
        data = json.dumps(order).encode()
        try:
            answer = run_there(reach, "holder", action, data=data, timeout_s=timeout_s or self._answer_s)
        except OSError as error:
            return _Reply(Answer(CANNOT_START, b"", f"{reach[0]}: {error.strerror}"))
        return _Reply(answer)

    def _runs(self, host: Host, worker: str) -> bool:
        server = self._servers.get(host)
        return server is not None and any(loop.place.worker == worker for loop in server.running())

    def _opened(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(PARALLEL, thread_name_prefix="ssh")
            self._connections = Connections()
        return self._pool


@dataclass(frozen=True)
class _Reply:
    """What became of asking a holder."""

    answer: Answer

    @property
    def reply(self) -> Mapping[str, Any] | None:
        """The holder's own words; None where there are none."""
        # A shell's start file may print whatever it likes before.
        lines = [line for line in self.answer.out.splitlines() if line.startswith(b"{")]
        if self.answer.code != 0 or not lines:
            return None
        try:
            found = json.loads(lines[-1])
        except ValueError:
            return None
        return found if isinstance(found, dict) else None


def holder_name(run_url: str, worker: str) -> str:
    """What a holder calls a loop: two runs on one server never take each other's loops for their own."""
    return f"{worker}.{hashlib.sha256(run_url.encode()).hexdigest()[:12]}"


def holder_order(
    place: Placement, run_url: str, secrets: Mapping[str, str], grace_s: float = GRACE_S
) -> dict[str, Any]:
    """What a holder is told, to start a loop of a run; see `devices/holder.py`."""
    command = [*place.command, "worker", "--run", run_url, "--name", place.worker]
    command += ["--device", place.device, "--threads", str(place.threads)]
    command += [] if place.gpu_memory_mib is None else ["--gpu-memory", str(place.gpu_memory_mib)]
    where = {"host": place.host.name if place.host else "", "gpu": place.type, "image": place.image}
    command += [word for key, text in where.items() if text for word in ("--where", f"{key}={text}")]
    return {
        "worker": holder_name(run_url, place.worker),
        "about": _about(run_url),
        "folder": place.host.folder if place.host else "/var/tmp/embedmill",  # noqa: S108 - as above
        "gpus": list(place.gpus),
        "command": [*command, *(["--environment-stdin"] if secrets else [])],
        "input": json.dumps(dict(secrets)) if secrets else "",
        "environment": {"OMP_NUM_THREADS": str(place.threads), "TOKENIZERS_PARALLELISM": "false"},
        "watch": dataclasses.asdict(place.yields) if place.yields else None,
        "grace_s": grace_s,
        "cleanup": list(place.cleanup),
        "cidfile": place.cid_file or None,
    }


def _about(run_url: str) -> str:
    """Whose a loop is, of its run's `STORE/PIPELINE/runs/RUN`; never where the store is."""
    *_, pipeline, _, run = ("", "", *run_url.rstrip("/").split("/"))
    return f"pipeline {pipeline}, run {run}"


def _take_start(loop: _Loop, answer: _Reply, host: Host) -> None:
    """What a start came to. Where there was no answer it may have succeeded: states will tell."""
    reply = answer.reply
    code, words = answer.answer.code, answer.answer.last_line
    if reply is None and code in {None, SSH_FAILED}:
        loop.said = words
    elif reply is None:
        why = "there is no python3" if code == NO_PYTHON else words or f"the holder ended with {code}"
        loop.end(CANNOT_START, f"{host.name}: {why}")
    elif reply["state"] == "taken":
        loop.end(GIVEN_BACK, f"{host.name}: {reply['gpu']} is taken by {reply['by']}")
    elif reply["state"] == "busy":
        loop.end(GIVEN_BACK, f"{host.name}: {reply['gpu']} is busy: {reply['reason']}")
    elif reply["state"] == "failed":
        loop.end(CANNOT_START, f"{host.name}: {reply['reason']}")


def _take_states(loops: Sequence[_Loop], reply: Mapping[str, Any]) -> None:
    by_name = {loop.name: loop for loop in loops}
    for state in reply["workers"]:
        loop = by_name.get(state["worker"])
        if loop is not None and loop.exit_code is None and not state["running"]:
            loop.end(state["exit_code"] if state["exit_code"] is not None else 137, state["said"])
