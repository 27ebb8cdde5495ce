"""Actors of a cluster, in the process that speaks to Ray: made, asked, begun, ended."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from embedmill.engines.ray.actor import WorkerActor

PAUSE_S = 0.1
FREE_S = 5.0
"""How long names of actors that were ended may stay taken."""
NEVER_MADE = ("creation task", "failed to be imported")
"""What Ray says of actors whose class cannot be loaded or made on their node: trying again is in vain."""
Answer = dict[str, Any]


class Actors:
    """Handles of actors by name, and the questions that they have not answered yet."""

    def __init__(self, namespace: str) -> None:
        """Know none yet."""
        self._namespace = namespace
        self._handles: dict[str, Any] = {}
        self._asked: dict[str, Any] = {}
        self._words: dict[str, str] = {}

    def nodes(self) -> list[Answer]:
        """`ray.nodes()`, of which only what is used."""
        import ray

        used = ("NodeID", "NodeManagerAddress", "Alive", "Resources", "Labels")
        return [{name: node.get(name) for name in used} for node in ray.nodes()]

    def make(self, loops: Sequence[Mapping[str, Any]]) -> Answer:
        """An actor for each loop that has none: `name`, `worker`, `run`, `keep_s`, `options`."""
        import ray

        remote = ray.remote(WorkerActor)
        for loop in loops:
            self._handles[loop["name"]] = remote.options(
                name=loop["name"],
                namespace=self._namespace,
                lifetime="detached",
                get_if_exists=True,
                max_restarts=-1,
                max_task_retries=0,
                **loop["options"],
            ).remote(loop["worker"], loop["run"], loop["keep_s"])
        return {}

    def make_anew(self, loops: Sequence[Mapping[str, Any]]) -> Answer:
        """As `make`, in place of actors that are there."""
        import ray

        names = {loop["name"] for loop in loops}
        for name in names:
            if (handle := self._handle(name)) is not None:
                ray.kill(handle, no_restart=True)
            self._asked.pop(name, None)
            self._words.pop(name, None)
        self._await_end(names)
        return self.make(loops)

    def states(self, names: Sequence[str], wait_s: float) -> dict[str, Answer]:
        """What each says within `wait_s`: its state, `silent`, or `gone` with the last words about it.

        `starts_again`: it is silent since Ray has to start it, here or elsewhere; with Ray's words.
        """
        gone: dict[str, Answer] = {}
        for name in names:
            if name not in self._asked:
                handle = self._handle(name)
                if handle is None:
                    gone[name] = {"gone": self._words.pop(name, "")}
                else:
                    self._asked[name] = handle.state.remote()
        return gone | self._collect([name for name in names if name in self._asked], wait_s)

    def begin(self, loops: Sequence[Mapping[str, Any]], wait_s: float) -> dict[str, Answer]:
        """Order loops to start: `name`, `order`, `secrets`; where there is no answer, states will tell."""
        for loop in loops:
            handle = self._handle(loop["name"])
            if handle is not None:
                self._asked[loop["name"]] = handle.begin.remote(loop["order"], loop["secrets"])
        return self._collect([loop["name"] for loop in loops if loop["name"] in self._asked], wait_s)

    def stop(self, names: Sequence[str], working: Sequence[str], grace_s: float, wait_s: float) -> Answer:
        """Ask all to leave, wait until their loops have ended, end the actors for good.

        Of those that were `working`, no answer is not an end: their loops may take as long as all others.
        """
        import ray

        handles = {name: handle for name in names if (handle := self._handle(name)) is not None}
        self._asked = {name: handle.leave.remote(grace_s) for name, handle in handles.items()}
        deadline_s = time.monotonic() + grace_s + wait_s
        said = self._collect(list(handles), wait_s)
        while (left := _left(said, working)) and time.monotonic() < deadline_s:
            time.sleep(PAUSE_S)
            said = self.states(left, wait_s)
        for handle in handles.values():
            ray.kill(handle, no_restart=True)
        self._handles, self._asked = {}, {}
        return {}

    def _await_end(self, names: set[str]) -> None:
        deadline_s = time.monotonic() + FREE_S
        while names and time.monotonic() < deadline_s:
            time.sleep(PAUSE_S)
            for name in names:
                self._handles.pop(name, None)
            names = {name for name in names if self._handle(name) is not None}

    def _handle(self, name: str) -> Any | None:
        """None where there is no such actor any more."""
        import ray

        if name not in self._handles:
            try:
                self._handles[name] = ray.get_actor(name, self._namespace)
            except ValueError:
                return None
        return self._handles[name]

    def _collect(self, names: Sequence[str], wait_s: float) -> dict[str, Answer]:
        import ray

        asked = {self._asked[name]: name for name in names}
        ready, late = ray.wait(list(asked), num_returns=len(asked), timeout=wait_s) if asked else ([], [])
        found: dict[str, Answer] = {asked[each]: {"silent": True} for each in late}
        for each in ready:
            name = asked[each]
            del self._asked[name]
            found[name] = self._answer(name, each)
        return found

    def _answer(self, name: str, reference: Any) -> Answer:
        """Where Ray says that an actor died it may be about to start again: its name is looked up anew."""
        import ray

        try:
            said: Answer = ray.get(reference)
        except ray.exceptions.RayActorError as error:
            if any(sign in str(error) for sign in NEVER_MADE):
                return {"broken": _last_line(error)}
            self._words[name] = _last_line(error)
            self._handles.pop(name, None)
            return {"silent": True, "starts_again": self._words[name]}
        except ray.exceptions.RayError as error:
            return {"broken": _last_line(error)}
        return said


def _left(said: Mapping[str, Answer], working: Sequence[str]) -> list[str]:
    """Actors whose loops run, or may do so; one that Ray has to start again has none."""
    silent = {name for name, each in said.items() if "silent" in each and "starts_again" not in each}
    runs = {name for name, each in said.items() if each.get("start") and each["exit_code"] is None}
    return sorted(runs | silent.intersection(working))


def _last_line(error: Exception) -> str:
    """Of a trace: what was raised."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    raised = [line for line in lines if "Error: " in line]
    return (raised or lines or [type(error).__name__])[-1]
