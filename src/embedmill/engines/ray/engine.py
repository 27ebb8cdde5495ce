"""Worker loops as children of actors of a Ray cluster: an actor is a loop.

start ─▶ a detached, named actor each ─▶ Ray finds a node, and another one when that dies
states: what was last heard; actors are asked in the background, every 2 s. One that has a node and no order
        gets it then, with what opens the store just now
stop ─▶ loops finish their batch, actors are ended for good

No answer is not an end. An actor that had an order and has none was started again by Ray: its loop is lost.

Ray fails every question to an actor that it has to start again, whether there is no node for it or its node
cannot make it; questions to a new one wait for a node. So one that has only ever failed is made anew, and
what fails as a new one, too, cannot be made.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from embedmill.engines.ray.bridge import Bridge, Connection
from embedmill.engines.ray.nodes import Family, Node
from embedmill.engines.telling import Waiting
from embedmill.errors import EmbedmillError, EngineUnavailable, SpecError
from embedmill.types import WorkerState

if TYPE_CHECKING:
    from embedmill.types import Placement

EVERY_S = 2.0
WAIT_S = 1.0
"""How long one question waits for all actors; who has not answered by then is asked no second time."""
ANSWER_S = 20.0
SILENT_S = 60.0
START_S = 60.0
"""How long a start asks again where the cluster gives no answer."""
GRACE_S = 10.0
KEEP_S = 60.0
"""An actor without a loop ends itself when nobody has asked for so long."""
CANNOT_START, LOST = 126, 255
TRIES = 5
"""How often an actor without an order may fail: after that it is made anew, and then it cannot be made."""
NEVER_STARTS = "cannot start on its node (is embedmill installed there?)"
Secrets = Callable[[], Mapping[str, str]]


def no_secrets() -> Mapping[str, str]:
    """For stores that need none."""
    return {}


@dataclass
class _Loop:
    """A loop; `start` names its newest start. `begun`: its actor has the order of that start.

    `answered`: its actor was made, and said so. `waits`: it has no node as far as anybody knows.
    `failures`: since it answered or was made. `anew`: its actor was made once more, and has not answered yet.
    """

    place: Placement
    start: str
    begun: bool = False
    answered: bool = False
    waits: bool = True
    failures: int = 0
    anew: bool = False
    heard_s: float = 0.0
    exit_code: int | None = None
    said: str = ""

    @property
    def told_to_run(self) -> bool:
        """Whether it runs as far as anybody knows."""
        return self.exit_code is None and (self.begun or not self.waits)

    def end(self, exit_code: int, said: str) -> None:
        self.exit_code, self.said = exit_code, said


class RayEngine:
    """Loops that outlive this process; whoever starts them again under their names finds them running."""

    def __init__(
        self,
        connection: Connection,
        families: Mapping[str, Family],
        secrets: Secrets = no_secrets,
        *,
        every_s: float = EVERY_S,
        silent_s: float = SILENT_S,
        start_s: float = START_S,
        grace_s: float = GRACE_S,
        keep_s: float = KEEP_S,
    ) -> None:
        """Ask nothing yet.

        Args:
            connection: The cluster.
            families: What actors need of their nodes, by `Placement.image`.
            secrets: Environment variables that a loop needs to open the store; asked whenever loops begin.
            every_s: How often actors are asked.
            silent_s: How long an actor may say nothing until its loop counts as lost.
            start_s: How long a start tries again where the cluster gives no answer.
            grace_s: How long a loop may take to stop.
            keep_s: How long an actor that nobody asks for stays without a loop.
        """
        self._bridge, self._families, self._secrets = Bridge(connection), families, secrets
        self._every_s, self._silent_s, self._start_s = every_s, silent_s, start_s
        self._grace_s, self._keep_s = grace_s, keep_s
        self._run_url = ""
        self._loops: dict[str, _Loop] = {}
        self._made: set[str] = set()
        """Names of all actors that were asked for: some may be there although a start failed."""
        self._lock = threading.Lock()
        """Held while loops are looked at and changed: an answer is of before a start or of after it."""
        self._asking: threading.Thread | None = None
        self._now = threading.Event()
        """Set where actors are to be asked at once."""
        self._trouble = ""
        self._stopped = False

    def start(self, run_url: str, placements: Sequence[Placement]) -> None:
        """Make actors for loops that have none, and let each begin when it has a node.

        Raises:
            EngineRefused: The cluster says no.
            EngineUnavailable: It gives no answer for `start_s`.
            EmbedmillError: There is nothing that loops could open the store with.
        """
        with self._lock:
            self._run_url, self._stopped = run_url, False
            wanted = [place for place in placements if not self._runs(place.worker)]
            if not wanted:
                return
            self._secrets()  # whoever waits for a start hears what is wrong
            orders = [self._actor(place) for place in wanted]
            self._made |= {order["name"] for order in orders}
            self._patiently(lambda: self._bridge.ask(ANSWER_S, "make", loops=orders))
            now_s = time.monotonic()
            for place in wanted:
                before = self._loops.get(place.worker)
                answered = before is not None and before.answered
                waits = not answered or (before is not None and before.exit_code == LOST)
                self._loops[place.worker] = _Loop(
                    place, uuid4().hex, answered=answered, waits=waits, heard_s=now_s
                )
            self._ask_on()

    def states(self) -> list[WorkerState]:
        """What was heard last; actors are asked again in the background."""
        return [self._state(worker, loop) for worker, loop in list(self._loops.items())]

    def stop(self) -> None:
        """Ask loops to finish their batch, `grace_s` seconds; then end the actors for good.

        Where the cluster gives no answer, actors are left to `keep_s`.
        """
        with self._lock:
            names = sorted(self._made)
            working = [self._name(worker) for worker, loop in self._loops.items() if loop.told_to_run]
            self._loops, self._made, self._stopped = {}, set(), True
            if names:
                with contextlib.suppress(EmbedmillError):  # whoever drives the run has its outcome to tell
                    order = {"names": names, "working": working, "grace_s": self._grace_s, "wait_s": WAIT_S}
                    self._bridge.ask(ANSWER_S + self._grace_s, "stop", **order)
        if self._asking is not None:
            self._now.set()
            self._asking.join()
            self._asking = None
        self._bridge.close()

    def nodes(self) -> list[Node]:
        """The cluster's nodes, those that are gone among them.

        Raises:
            EngineUnavailable, EngineRefused, MissingExtra: As `start`; or the engine was stopped meanwhile.
        """
        if self._stopped:
            raise EngineUnavailable("Ray: the engine was stopped")
        return [Node.parse(each) for each in self._bridge.ask(ANSWER_S, "nodes")["nodes"]]

    # What is heard

    def _ask_on(self) -> None:
        """Ask actors from now on, until the engine is stopped."""
        if self._asking is None:
            self._asking = threading.Thread(target=self._ask_for_long, name="ray", daemon=True)
            self._asking.start()
        self._now.set()

    def _ask_for_long(self) -> None:
        while not self._stopped:
            self._now.wait(self._every_s)
            self._now.clear()
            with self._lock:
                self._ask()

    def _ask(self) -> None:
        live = {self._name(worker): loop for worker, loop in self._loops.items() if loop.exit_code is None}
        try:
            if live:
                said = self._bridge.ask(ANSWER_S, "states", names=list(live), wait_s=WAIT_S)["states"]
                idle = [name for name, loop in live.items() if self._take(loop, said.get(name, {}))]
                if idle:
                    self._begin({name: live[name] for name in idle})
                self._make_anew([loop for loop in live.values() if loop.failures >= TRIES])
            self._trouble = ""
        except Exception as error:  # noqa: BLE001 - a thread that ended would leave all states as they are
            self._trouble = _words(error)
        self._count_silent(live.values())

    def _take(self, loop: _Loop, said: Mapping[str, Any]) -> bool:
        """What an actor says of a loop; whether it has a node and waits for an order."""
        if "gone" in said:
            return self._take_gone(loop, said["gone"])
        if "broken" in said:
            loop.end(CANNOT_START, said["broken"])
            return False
        if "starts_again" in said:
            loop.waits = True
            loop.failures += not loop.begun  # one with an order has `silent_s`
            if loop.anew and loop.failures >= TRIES:
                loop.end(CANNOT_START, f"its actor {NEVER_STARTS}: {said['starts_again']}")
        if "start" not in said:
            return False
        loop.answered, loop.waits, loop.heard_s = True, False, time.monotonic()
        loop.failures, loop.anew = 0, False
        ours = said["start"] == loop.start
        if loop.begun and not ours:
            loop.end(LOST, "its node was lost: Ray has started its actor again")
        elif not ours and said["start"] is not None and said["exit_code"] is None:
            loop.start, loop.begun = said["start"], True  # of whoever drove the run before
        elif not ours:
            return True
        else:
            loop.begun = True
            if said["exit_code"] is not None:
                loop.end(said["exit_code"], said["said"])
        return False

    def _take_gone(self, loop: _Loop, words: str) -> bool:
        if loop.answered:
            loop.end(LOST, "its actor was ended by somebody")
        else:
            loop.end(CANNOT_START, f"its actor was not made: {words}" if words else "its actor is gone")
        return False

    def _make_anew(self, loops: Iterable[_Loop]) -> None:
        failing = [loop for loop in loops if loop.exit_code is None]
        if failing:
            orders = [self._actor(loop.place) for loop in failing]
            self._bridge.ask(ANSWER_S, "make anew", loops=orders)
            for loop in failing:
                loop.failures, loop.anew = 0, True

    def _begin(self, loops: Mapping[str, _Loop]) -> None:
        """Give orders. Where nothing opens the store, loops are lost: who starts them again hears why."""
        try:
            secrets = dict(self._secrets())
        except Exception as error:  # noqa: BLE001 - it is raised where the driver is, by the next start
            for loop in loops.values():
                loop.end(LOST, _words(error))
            return
        orders = [
            {
                "name": name,
                "order": self._order(loop, secrets),
                "secrets": json.dumps(secrets) if secrets else "",
            }
            for name, loop in loops.items()
        ]
        said = self._bridge.ask(ANSWER_S, "begin", loops=orders, wait_s=WAIT_S)["states"]
        for name, loop in loops.items():
            self._take(loop, said.get(name, {}))

    def _count_silent(self, loops: Iterable[_Loop]) -> None:
        now_s = time.monotonic()
        for loop in loops:
            if loop.told_to_run and now_s - loop.heard_s > self._silent_s:
                loop.end(LOST, self._trouble or f"its node gave no answer for {self._silent_s:.0f} s")

    def _state(self, worker: str, loop: _Loop) -> WorkerState:
        return WorkerState(worker, loop.exit_code, loop.said, loop.exit_code is None and loop.waits)

    # What is asked for

    def _runs(self, worker: str) -> bool:
        loop = self._loops.get(worker)
        return loop is not None and loop.exit_code is None

    def _patiently(self, ask: Callable[[], object]) -> None:
        """Do it again while there is no answer; a wait of some seconds is told as a warning."""
        waiting = Waiting("Ray")
        while True:
            try:
                ask()
            except EngineUnavailable as error:
                left_s = self._start_s - waiting.waited_s()
                if left_s <= 0:
                    raise
                waiting.tell(error.message, left_s)
                time.sleep(min(1.0, self._every_s))
            else:
                waiting.answered()
                return

    def _actor(self, place: Placement) -> dict[str, Any]:
        return {
            "name": self._name(place.worker),
            "worker": place.worker,
            "run": self._run_url.rstrip("/").rpartition("/")[2],
            "keep_s": self._keep_s,
            "options": self._family(place.image).options(),
        }

    def _order(self, loop: _Loop, secrets: Mapping[str, str]) -> dict[str, Any]:
        place = loop.place
        family = self._family(place.image)
        arguments = ["worker", "--run", self._run_url, "--name", place.worker, "--progress"]
        arguments += ["--device", place.device, "--threads", str(place.threads)]
        return {
            "start": loop.start,
            "version": version("embedmill"),
            "command": list(place.command or family.command),
            "arguments": [*arguments, *(["--environment-stdin"] if secrets else [])],
            "environment": {"OMP_NUM_THREADS": str(place.threads), "TOKENIZERS_PARALLELISM": "false"},
            "memory_mib": family.memory_mib,
            "image": place.image,
        }

    def _name(self, worker: str) -> str:
        return actor_name(self._run_url, worker)

    def _family(self, name: str) -> Family:
        if name not in self._families:
            raise SpecError(f"engine ray: no family {name!r}", hint="name it in `ray.families`")
        return self._families[name]


def _words(error: Exception) -> str:
    return error.message if isinstance(error, EmbedmillError) else f"{type(error).__name__}: {error}"


def actor_name(run_url: str, worker: str) -> str:
    """What an actor is found by, unique to the run wherever its store is."""
    return f"embedmill-{hashlib.sha256(run_url.encode()).hexdigest()[:12]}-{worker}"
