"""Places of several engines, for one run; each says which engine is to start a loop there."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
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
    """Places of all parts. One that cannot be asked hides no other, and one that is slow holds up none."""

    parts: Mapping[str, Places]
    quick_s: float = QUICK_S
    _asking: dict[str, Future[Look]] = field(default_factory=dict)
    """Parts that have not answered yet: the next look takes what they say."""

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
        for name, part in self.parts.items():
            if name not in self._asking:
                self._asking[name] = _ask(part, most, held)
        failed: dict[str, EmbedmillError] = {}
        looks = self._answers(self.quick_s, failed)
        while self._asking and not any(look.free for look in looks.values()):
            looks |= self._answers(None, failed)
        if failed and not (looks or self._asking):
            raise next(iter(failed.values()))
        passed_over = {f"engine {name}": str(error) for name, error in failed.items()}
        passed_over |= {f"engine {name}": BEING_ASKED for name in self._asking}
        for look in looks.values():
            passed_over |= look.passed_over
        taken: dict[str, Placement] = {}
        for place in _in_turns(looks):
            other = taken.get(place.worker)
            if other is not None:
                passed_over[f"{place.engine}: {place.worker}"] = f"is the name of a loop of {other.engine}"
            elif len(taken) < most and place.worker not in held:
                taken[place.worker] = place
        return Look(tuple(taken.values()), passed_over)

    def _answers(self, timeout_s: float | None, failed: dict[str, EmbedmillError]) -> dict[str, Look]:
        """What those say that answer until then; without a time, until one more does."""
        wait(self._asking.values(), timeout_s, ALL_COMPLETED if timeout_s else FIRST_COMPLETED)
        found = {}
        for name, answer in list(self._asking.items()):
            if answer.done():
                del self._asking[name]
                try:
                    found[name] = answer.result()
                except EmbedmillError as error:
                    failed[name] = error
        return {name: found[name] for name in self.parts if name in found}


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
