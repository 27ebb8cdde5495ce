"""What can happen to a store's calls, and what decides when: for `FaultyStore`.

A fault is a value; a `Faults` chooses one for each call. There are some that draw (`SeededFaults`), follow a
plan (`Script`), or last (`Blackout`); write others to your needs.
"""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

Verb: TypeAlias = Literal[
    "get",
    "head",
    "list",
    "put",
    "put_if_absent",
    "delete",
    "copy_if_absent",
    "adopt_if_absent",
    "path",
    "download",
    "get_range",
    "folders",
    "sweep_unfinished",
]


@dataclass(frozen=True)
class Call:
    """One call of a store: the method, its key (a copy's target, a list's prefix), and its number from 1."""

    verb: Verb
    key: str
    number: int


@dataclass(frozen=True)
class Refused:
    """The call is not done: `StoreUnavailable`, as for 503, 429 or a refused connection."""

    reason: str = "503 Slow Down"


@dataclass(frozen=True)
class AnswerLost:
    """The call is done, and then `StoreUnavailable`. A list breaks off after half of its objects."""

    reason: str = "connection reset by peer"


@dataclass(frozen=True)
class Late:
    """`StoreUnavailable` now; a write arrives just before the so-manieth call after this one.

    One that meets a taken key or another ETag then vanishes, as it would in a store.
    """

    calls: int = 1


@dataclass(frozen=True)
class Slow:
    """The call is done after a while."""

    seconds: float = 1.0


@dataclass(frozen=True)
class Full:
    """A write finds no space: `StoreFull`. Reads are not disturbed."""


@dataclass(frozen=True)
class Crash:
    """The process dies, before the call or after it: `Crashed`, now and for every later call."""

    when: Literal["before", "after"] = "before"


Fault: TypeAlias = Refused | AnswerLost | Late | Slow | Full | Crash


class Faults(Protocol):
    """Decides what happens to each call. May block, in either method, to order the calls of threads."""

    def before(self, call: Call) -> Fault | None:
        """What happens to a call that is about to be made; None is nothing."""
        ...

    def after(self, call: Call) -> None:  # noqa: ARG002 - most have nothing to note
        """Take note that a call has ended, however it did."""
        return


class NoFaults(Faults):
    """Nothing ever happens."""

    def before(self, call: Call) -> Fault | None:  # noqa: ARG002 - the protocol's signature
        """Nothing."""
        return None


@dataclass(frozen=True)
class SeededFaults(Faults):
    """Faults at random; the same for the same seed, number of call and rates.

    `rates` are chances from 0 to 1, 1 in all at most. Only calls of `verbs` are met, all if None. Stores that
    are not to fail in step need seeds of their own.
    """

    seed: int
    rates: Mapping[Fault, float]
    verbs: Collection[Verb] | None = None

    def before(self, call: Call) -> Fault | None:
        """Draw."""
        if self.verbs is not None and call.verb not in self.verbs:
            return None
        drawn = random.Random(f"{self.seed}.{call.number}").random()  # noqa: S311 - no secret
        for fault, rate in self.rates.items():
            drawn -= rate
            if drawn < 0:
                return fault
        return None


@dataclass(frozen=True)
class At:
    """A fault at the `nth` call of the verb whose key fits a pattern such as `*/log/*`, and `times - 1` more.

    Without a verb any call counts.
    """

    fault: Fault
    verb: Verb | None = None
    key: str = "*"
    nth: int = 1
    times: int = 1


class Script(Faults):
    """Faults at chosen calls. Where several lines fit a call, the first one decides, and all count it."""

    def __init__(self, *lines: At) -> None:
        """Begin to count."""
        self._lines = lines
        self._met = [0] * len(lines)
        self._lock = threading.Lock()

    def before(self, call: Call) -> Fault | None:
        """Look it up."""
        fault: Fault | None = None
        with self._lock:
            for place, line in enumerate(self._lines):
                if line.verb in {None, call.verb} and fnmatchcase(call.key, line.key):
                    self._met[place] += 1
                    if fault is None and line.nth <= self._met[place] < line.nth + line.times:
                        fault = line.fault
        return fault


@dataclass(frozen=True)
class Blackout(Faults):
    """Calls fail from `start` until `end`: of the clock, or where there is none, by their numbers.

    With `verbs` it is a partial outage, such as of all writes.
    """

    start: float
    end: float
    clock: Callable[[], float] | None = None
    verbs: Collection[Verb] | None = None
    fault: Fault = Refused("connection timed out")

    def before(self, call: Call) -> Fault | None:
        """Look at the time."""
        now = call.number if self.clock is None else self.clock()
        met = self.verbs is None or call.verb in self.verbs
        return self.fault if met and self.start <= now < self.end else None


class FirstOf(Faults):
    """Several faults; the first one that has something for a call decides, and all are asked."""

    def __init__(self, *faults: Faults) -> None:
        """In order of rank."""
        self._faults = faults

    def before(self, call: Call) -> Fault | None:
        """Ask all of them."""
        decided = [each.before(call) for each in self._faults]
        return next((fault for fault in decided if fault is not None), None)

    def after(self, call: Call) -> None:
        """Tell all of them."""
        for each in self._faults:
            each.after(call)
