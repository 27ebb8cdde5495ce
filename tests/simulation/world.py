"""The simulated world: virtual time, names from a seed, processes that crash, a store that forgets answers.

agent ──▶ RetryingStore ──▶ FaultyStore (one a process) ──▶ WatchedStore ──▶ MemoryStore
                               └── every call: perhaps another agent's turn, perhaps a fault
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tests.simulation.promises import WatchedStore
from tests.simulation.scheduler import Scheduler

from embedmill.store.budget import RetryPolicy
from embedmill.store.faults import AnswerLost, Call, Crash, Fault, Faults, Late, Refused, Slow
from embedmill.store.faulty import FaultyStore, InFlight
from embedmill.store.retrying import RetryingStore
from embedmill.world import World

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
PATIENCE = RetryPolicy(deadline_s=30.0)
SKEW_S = 10 * 365 * 86_400
"""Ten years: processes' clocks are off by up to that much, either way."""


class SimulatedWorld(World):
    """Virtual time, off by a process's own skew, and names that repeat with the seed."""

    def __init__(self, scheduler: Scheduler, name: str, skew_s: float = 0.0) -> None:
        """`name` makes this process's names its own."""
        self._scheduler = scheduler
        self._random = random.Random(f"{name} {scheduler.random.random()}")
        self._skew_s = skew_s

    def now(self) -> datetime:
        """The process's own time of day."""
        return BEGIN + timedelta(seconds=self._scheduler.now_s + self._skew_s)

    def monotonic(self) -> float:
        """Seconds; from a beginning of the process's own."""
        return self._scheduler.now_s + self._skew_s % 1000

    def sleep(self, seconds: float) -> None:
        """Let others run for so long."""
        self._scheduler.sleep(seconds)

    def token(self, size_bytes: int) -> str:
        """Bytes of the seed's, in hex."""
        return self._random.randbytes(size_bytes).hex()


@dataclass
class SimulatedFaults(Faults):
    """Lets the scheduler switch at every call, and draws faults; notes all of it in the trace."""

    scheduler: Scheduler
    rates: Mapping[Fault, float]

    def before(self, call: Call) -> Fault | None:
        """Others' turn, perhaps; then a fault, perhaps."""
        self.scheduler.turn()
        fault = self._drawn()
        self.scheduler.note(f"{call.verb} {call.key}" + (f" !! {fault}" if fault else ""))
        return fault

    def _drawn(self) -> Fault | None:
        drawn = self.scheduler.random.random()
        for fault, rate in self.rates.items():
            drawn -= rate
            if drawn < 0:
                return fault
        return None


STORMY: Mapping[Fault, float] = {
    Refused(): 0.01,
    AnswerLost(): 0.01,
    Late(3): 0.005,
    Late(200): 0.005,
    Slow(100.0): 0.003,
    Crash("before"): 0.001,
    Crash("after"): 0.001,
}
CALM: Mapping[Fault, float] = {}


def new_process(
    scheduler: Scheduler, watched: WatchedStore, in_flight: InFlight, rates: Mapping[Fault, float], name: str
) -> tuple[RetryingStore, SimulatedWorld]:
    """A process's view of the store, and its world."""
    world = SimulatedWorld(scheduler, name, scheduler.random.uniform(-SKEW_S, SKEW_S))
    faulty = FaultyStore(
        watched, SimulatedFaults(scheduler, rates), in_flight=in_flight, sleep=scheduler.sleep
    )
    store = RetryingStore(
        faulty, PATIENCE, sleep=scheduler.sleep, clock=world.monotonic, random=scheduler.random.random
    )
    return store, world
