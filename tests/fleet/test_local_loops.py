"""How many loops a refresh starts on this machine."""

from __future__ import annotations

import pytest
from tests.spec import examples
from tests.spec.calibration_example import calibration

from embedmill.cores import EVERY, cores
from embedmill.engines import LocalPlaces
from embedmill.fleet.engines import WORTH_A_LOOP_S, loops_worth_starting
from embedmill.spec.documents import Estimate, Plan, ReleaseName

CORES = cores(EVERY)
BASE = ReleaseName(release="20260101T000000000-aaaa", number=1)


def plan(seconds: float | None, base: ReleaseName | None = BASE, shards: int = 1) -> Plan:
    """A plan of so many shards, whose estimate is that of a loop each, but no more than there are cores."""
    estimate = Estimate(seconds=seconds, source="made up")
    return examples.plan().model_copy(
        update={"base": base, "estimate": estimate, "shards": examples.plan().shards[:1] * shards}
    )


@pytest.mark.parametrize("shards", [1, 100])
def test_a_refresh_that_takes_no_longer_than_starting_a_loop_starts_one(shards: int) -> None:
    together = min(CORES, shards)
    assert loops_worth_starting(plan(0.0, shards=shards)) == 1
    assert loops_worth_starting(plan(WORTH_A_LOOP_S / together, shards=shards)) == 1


def test_a_long_refresh_starts_a_loop_for_each_core() -> None:
    assert loops_worth_starting(plan(3600.0, shards=100)) == CORES


@pytest.mark.parametrize("unknown", [plan(None, shards=100), plan(0.0, base=None, shards=100)])
def test_whose_rate_is_not_known_starts_a_loop_for_each_core(unknown: Plan) -> None:
    assert loops_worth_starting(unknown) == CORES


def test_more_loops_than_were_measured_for_have_fewer_threads_each() -> None:
    places = LocalPlaces(CORES, threads=CORES).look(CORES, ()).free
    assert [place.threads for place in places] == [1] * CORES
    assert [place.threads for place in LocalPlaces(1, threads=CORES).look(9, ()).free] == [CORES]


def test_an_estimate_is_of_cores_so_that_threads_of_a_loop_share_its_work() -> None:
    on_eight = plan(WORTH_A_LOOP_S * 2 / 8, shards=100)
    chosen = calibration().chosen.model_copy(update={"threads": 2, "sessions": 1})
    threaded = {"calibration": calibration().model_copy(update={"chosen": chosen})}
    assert loops_worth_starting(on_eight, 8) == 2
    assert loops_worth_starting(on_eight.model_copy(update=threaded), 8) == 1
