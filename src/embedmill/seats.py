"""Seats: how many loops a run may have just now, where several pipelines share devices.

Whoever divides the devices and each run meet in a folder of two files, which are replaced whole:

    seats.json     {"seats": 2}                      the divider writes, the run reads
    standing.json  {"left": 9, "running": 1, …}      the run writes, the divider reads

So either may die: a run whose divider is gone keeps its last seats, and one that is gone stands still.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from embedmill.types import Look

if TYPE_CHECKING:
    from embedmill.engines import Places
    from embedmill.types import Placement
    from embedmill.world import World

LOOK_AGAIN_S = 0.5
"""How often a run reads its seats: a small file of this machine."""


@dataclass(frozen=True)
class Standing:
    """How a run stands: shards `left`, loops `running`, and the most places that it could use now.

    `spare`: idle places that it found and did not take.
    """

    left: int = 0
    running: int = 0
    most: int = 0
    spare: int = 0

    @property
    def wanted(self) -> int:
        """Loops that would find work."""
        return min(self.left, self.most)


@dataclass(frozen=True)
class SeatFolder:
    """The two files. Reading one that is missing or damaged gives nothing: 0 seats, no work."""

    folder: Path

    def grant(self, seats: int) -> None:
        """As the divider: let the run have so many loops."""
        self._write("seats.json", {"seats": seats})

    def granted(self) -> int:
        """As the run: how many loops it may have."""
        return int(self._read("seats.json").get("seats", 0))

    def tell(self, standing: Standing) -> None:
        """As the run: how it stands."""
        self._write("standing.json", asdict(standing))

    def standing(self) -> Standing:
        """As the divider: what the run told last."""
        return Standing(**self._read("standing.json"))

    def has_told(self) -> bool:
        """As the divider: whether the run has told anything, which it does once its plan is made."""
        return (self.folder / "standing.json").exists()

    def _write(self, name: str, values: Mapping[str, int]) -> None:
        beside = self.folder / f".{name}"
        beside.write_text(json.dumps(values))
        os.replace(beside, self.folder / name)  # noqa: PTH105 - atomic, and says so

    def _read(self, name: str) -> dict[str, int]:
        try:
            values: dict[str, int] = json.loads((self.folder / name).read_text())
        except (OSError, ValueError):
            return {}
        return values


@runtime_checkable
class Shared(Protocol):
    """Places that others may want: a driver tells how it stands, and hears which loops have to go."""

    def settle(self, running: Sequence[str], left: int) -> tuple[str, ...]:
        """Tell that these loops run and so many shards are left; returns those that are to leave."""
        ...


@dataclass
class SharedPlaces:
    """Places of another kind, no more of them than there are seats. Waits while there are none."""

    inner: Places
    folder: SeatFolder
    world: World
    again_s: float | None = LOOK_AGAIN_S
    waits: bool = True
    _found: Look = field(default_factory=lambda: Look(()))
    _looked_s: float | None = None
    _most: int = 0
    _told: Standing | None = None

    def look(self, most: int, held: Collection[str]) -> Look:
        """Free places within the seats: those that the last look of the inner kind found, or a new one."""
        if self._is_due():
            self._found = self._with_kept(self.inner.look(most, held))
            self._looked_s = self.world.monotonic()
        idle = [place for place in self._found.free if place.worker not in held]
        taken = idle[: max(0, self.folder.granted() - len(held))]
        self._keep([place for place in idle if place not in taken], most=len(held) + len(idle))
        self._tell(len(held) + len(taken), self._told.left if self._told else most)
        return Look(tuple(taken), self._found.passed_over)

    def settle(self, running: Sequence[str], left: int) -> tuple[str, ...]:
        """Loops beyond the seats, those that were started last."""
        self._tell(len(running), left)
        return tuple(running[self.folder.granted() :]) if left else ()

    def _is_due(self) -> bool:
        every_s = self.inner.again_s
        if self._looked_s is None or every_s is None:
            return True
        return self.world.monotonic() - self._looked_s >= every_s

    def _with_kept(self, found: Look) -> Look:
        """Also what is kept of engines that were not asked anew."""
        if found.answered is None:
            return found
        names = {place.worker for place in found.free}
        kept = (place for place in self._found.free if place.worker not in names)
        kept = (place for place in kept if place.engine not in found.answered)
        return Look((*found.free, *kept), found.passed_over)

    def _keep(self, idle: Sequence[Placement], *, most: int) -> None:
        self._found, self._most = Look(tuple(idle), self._found.passed_over), most

    def _tell(self, running: int, left: int) -> None:
        standing = Standing(left, running, self._most, len(self._found.free))
        if standing != self._told:
            self._told = standing
            self.folder.tell(standing)
