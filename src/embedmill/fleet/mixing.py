"""Places of several engines, for one run; each says which engine is to start a loop there."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from embedmill.errors import EmbedmillError
from embedmill.types import Host, Look, Placement

if TYPE_CHECKING:
    from embedmill.engines import Places

QUICK_S = 1.0
"""How long a look waits for all parts, where one has places already."""
BEING_ASKED = "is being asked"


@dataclass
class MixedPlaces:
    """Places of all parts. One that cannot be asked hides no other, and one that is slow holds up none.

    Each is asked as often as it wants to be, and not as often as the most impatient one: a look at a fleet
    asks all its servers. `clock` tells seconds.
    """

    parts: Mapping[str, Places]
    quick_s: float = QUICK_S
    clock: Callable[[], float] = time.monotonic
    _asking: dict[str, _Question] = field(default_factory=dict)
    """Parts that have not answered yet: the next look takes what they say."""
    _told: dict[str, _Told] = field(default_factory=dict)
    """What each part said last."""
    _vain: set[str] = field(default_factory=set)
    """Parts that had no place while no loop ran; none has run since."""

    @property
    def again_s(self) -> float | None:
        """As often as the most impatient of them; soon, where one has not answered yet."""
        if self._asking:
            return self.quick_s
        return min((part.again_s for part in self.parts.values() if part.again_s is not None), default=None)

    @property
    def waits(self) -> bool:
        """Whether one of them does."""
        return any(part.waits for part in self.parts.values())

    def look(self, most: int, held: Collection[str]) -> Look:
        """Free places: the parts take turns, so that few shards are shared by all.

        Raises:
            EmbedmillError: None of the parts can be asked.
        """
        if held:
            self._vain.clear()
        for name, part in self.parts.items():
            if name not in self._asking and self._is_due(name, part, held):
                self._asking[name] = _Question(_ask(part, most, held), alone=not held)
        fresh = self._answers(self.quick_s)
        while self._asking and not any(self._told[name].look.free for name in fresh):
            fresh |= self._answers(None)
        errors = [told.error for told in self._told.values() if told.error is not None]
        if fresh and not self._asking and len(errors) == len(self.parts):
            raise errors[0]
        passed_over: dict[str, str] = {}
        for name in self.parts:
            passed_over |= self._told[name].passed_over(name) if name in self._told else _being_asked(name)
        taken: dict[str, Placement] = {}
        for place in _in_turns({name: self._told[name].look for name in self.parts if name in fresh}):
            other = taken.get(place.worker)
            if other is not None:
                passed_over[f"{place.engine}: {place.worker}"] = f"is the name of a loop of {other.engine}"
            elif len(taken) < most and place.worker not in held:
                taken[place.worker] = place
        return Look(tuple(taken.values()), passed_over, frozenset(fresh))

    def _is_due(self, name: str, part: Places, held: Collection[str]) -> bool:
        """Whether its time has come; where all loops have ended that is at once, and then not again."""
        told = self._told.get(name)
        if told is None or part.again_s is None:
            return True
        if not held and name not in self._vain:
            return True
        return self.clock() - told.at_s >= part.again_s

    def _answers(self, timeout_s: float | None) -> set[str]:
        """Names of those that answer until then; without a time, until one more does."""
        answers = [question.answer for question in self._asking.values()]
        wait(answers, timeout_s, ALL_COMPLETED if timeout_s else FIRST_COMPLETED)
        fresh = set()
        for name, question in list(self._asking.items()):
            if question.answer.done():
                del self._asking[name]
                self._told[name] = question.told(self.clock())
                fresh.add(name)
                if question.alone and not self._told[name].look.free:
                    self._vain.add(name)
        return fresh


@dataclass(frozen=True)
class _Question:
    """One that a part is to answer. `alone`: no loop ran."""

    answer: Future[Look]
    alone: bool

    def told(self, now_s: float) -> _Told:
        """What the part said, once it has."""
        try:
            return _Told(self.answer.result(), now_s)
        except EmbedmillError as error:
            return _Told(Look(()), now_s, error)


@dataclass(frozen=True)
class _Told:
    """What a part said, and when: places, or why it cannot be asked."""

    look: Look
    at_s: float
    error: EmbedmillError | None = None

    def passed_over(self, name: str) -> Mapping[str, str]:
        """In its own words."""
        return self.look.passed_over if self.error is None else {f"engine {name}": str(self.error)}


def _being_asked(name: str) -> dict[str, str]:
    return {f"engine {name}": BEING_ASKED}


def _ask(part: Places, most: int, held: Collection[str]) -> Future[Look]:
    """Ask in the background; a process that ends does not wait for it."""
    answer: Future[Look] = Future()

    def go() -> None:
        try:
            answer.set_result(part.look(most, held))
        except BaseException as error:  # noqa: BLE001 - it is raised where the look is taken
            answer.set_exception(error)

    threading.Thread(target=go, name="places", daemon=True).start()
    return answer


def _in_turns(looks: Mapping[str, Look]) -> list[Placement]:
    """The first of each, the second of each, and so on; each with a host, since others may still work."""
    longest = max((len(look.free) for look in looks.values()), default=0)
    return [
        replace(place, engine=name, host=place.host or Host(name, (), ""))
        for number in range(longest)
        for name, look in looks.items()
        for place in look.free[number : number + 1]
    ]
