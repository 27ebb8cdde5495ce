"""Calibrations that are measured at once, and others in their place."""

from __future__ import annotations

import threading
from pathlib import Path

from embedmill.pipeline import Pipeline
from embedmill.planning import Calibrator, Planner
from embedmill.spec.calibration import KeptCalibration, Setting
from embedmill.spec.documents import Plan
from embedmill.world import World


class Stepping(World):
    """A clock that goes on by a step whenever somebody looks, so that no stall of the machine counts.

    Each thread has its own: else a session that computes while the others wait would use up their time.
    """

    def __init__(self, step_s: float = 0.005) -> None:
        self._step_s = step_s
        self._looks = threading.local()

    def monotonic(self) -> float:
        self._looks.count = getattr(self._looks, "count", 0) + 1
        return float(self._looks.count * self._step_s)


def planned(
    pipeline: Pipeline, *, worth_s: float = 0.0, one_thread: bool = False, world: World | None = None
) -> Plan:
    """A new plan of a pipeline, for which a calibration is worth while from so much work on."""
    calibrator = Calibrator(pipeline.spec, world or Stepping(), one_thread, worth_s)
    with Planner(
        pipeline.home,
        pipeline.spec,
        pipeline.root,
        pipeline.package,
        pipeline.live(),
        calibrator=calibrator,
    ) as planner:
        return planner.plan()[0]


def remember(cache: Path, **changed: int) -> Setting:
    """Write another choice into what the cache remembers, as if it had been measured."""
    (file,) = cache.iterdir()
    kept = KeptCalibration.from_bytes(file.read_bytes(), str(file))
    first = kept.calibration.measured[0]
    chosen = first.setting.model_copy(update=changed)
    measured = (first, first.model_copy(update={"setting": chosen}))
    found = kept.calibration.model_copy(update={"chosen": chosen, "measured": measured})
    file.write_bytes(kept.model_copy(update={"calibration": found}).to_bytes())
    return chosen
