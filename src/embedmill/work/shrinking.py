"""Fewer lanes, then smaller batches, where there is too little memory for those that were planned."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from typing import TYPE_CHECKING

from embedmill.errors import OutOfMemory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from embedmill.model import Encoder
    from embedmill.spec.documents import Plan, Profile

SLOWER = 4.0
"""So many times slower than calibrated is a loop that may lack memory."""
FAULTS_PER_S = 100.0
"""Of a process that waits for pages more than it computes: a disk gives some hundreds of them a second."""
PATIENCE_S = 30.0


def major_faults() -> int:
    """Pages that this process had to wait for until they were read from a disk."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_majflt


@dataclass
class Thrashing:
    """Tells a loop whose memory is paged out from one that is slow because others are at work.

    `per_lane_s`: rows a second of one lane that were measured; None: nothing was, and nothing is told.
    `lanes`: those that there are by now, fewer than planned where memory was short.
    """

    per_lane_s: float | None
    lanes: Callable[[], int]
    clock: Callable[[], float]
    faults: Callable[[], int] = major_faults

    def begin(self, *, watched: bool) -> None:
        """A shard is begun; not `watched` is one whose batches cannot be smaller."""
        self._watched = watched
        self._began_s, self._faults_before, self._rows = self.clock(), self.faults(), 0

    def check(self, rows: int) -> None:
        """So many more rows are done.

        Raises:
            OutOfMemory: The loop is far slower than was measured, and waits for pages all the time.
        """
        self._rows += rows
        took_s = max(self.clock() - self._began_s, 1e-9)
        expected = None if self.per_lane_s is None else self.per_lane_s * self.lanes()
        slow = expected is not None and self._rows / took_s * SLOWER < expected
        if not slow or not self._watched or took_s < PATIENCE_S:
            return
        if self.faults() - self._faults_before >= FAULTS_PER_S * took_s:
            raise OutOfMemory(f"{self._rows} rows took {took_s:.0f} s, since memory was paged out")


def measured_per_lane_s(plan: Plan) -> float | None:
    """Rows a second of one lane, where the plan's batches were measured."""
    found = plan.calibration
    for each in found.measured if found else ():
        if found is not None and each.setting == found.chosen:
            return each.items_per_s / each.setting.sessions
    return None


def smaller(encoder: Encoder, error: OutOfMemory | MemoryError) -> Encoder:
    """The same encoder with half as many lanes, or of one with batches half as large, after this error.

    Raises:
        OutOfMemory: They are the smallest already.
    """
    found = reduced(encoder, encoder.sessions.opened)
    if found is None:
        said = error.message if isinstance(error, OutOfMemory) else "Python got no memory"
        sizes = " and ".join(f"{size} {what}" for what, size in small_batches(encoder.profile).items())
        raise OutOfMemory(
            f"{said}; batches of {sizes.replace('batch_', '')} are too large",
            hint="give it more memory, or fewer batches at a time (`work.workers: 1`)",
        ) from error
    return found


def reduced(encoder: Encoder, lanes: int) -> Encoder | None:
    """With half of so many lanes, each of which has the model in memory; of one: with smaller batches."""
    encoder.limit_lanes(max(1, lanes // 2))
    return encoder if lanes > 1 else encoder.smaller()


def small_batches(profile: Profile) -> Mapping[str, int]:
    """What an event tells of them."""
    return {"batch_tokens": profile.batch_tokens, "batch_images": profile.batch_images}
