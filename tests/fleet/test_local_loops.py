"""How many loops a refresh starts on this machine."""

from __future__ import annotations

import pytest
from tests.spec import examples
from tests.spec.calibration_example import calibration

from embedmill.cores import EVERY, cores, cores_at_once
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
    assert loops_worth_starting(on_eight, every=8) == 2
    assert loops_worth_starting(on_eight.model_copy(update=threaded), every=8) == 1


def test_a_loop_of_many_lanes_stands_for_as_many_loops() -> None:
    long = plan(3600.0, shards=100)
    assert loops_worth_starting(long, 8, every=8) == 1
    assert loops_worth_starting(long, 8, every=20) == 3
    soon_done = plan(WORTH_A_LOOP_S * 2 / 16, shards=2)  # two shards keep sixteen cores busy
    assert loops_worth_starting(soon_done, 8, every=64) == 2


def lanes(places: LocalPlaces, most: int = 99) -> list[int]:
    return [place.lanes for place in places.look(most, ()).free]


def test_loops_share_all_cores_as_lanes() -> None:
    assert lanes(LocalPlaces(None, lanes=CORES)) == [CORES]
    assert lanes(LocalPlaces(None, lanes=CORES + 1)) == [CORES]
    assert sum(lanes(LocalPlaces(None, lanes=2))) == CORES
    assert lanes(LocalPlaces(None)) == [1] * CORES
    assert lanes(LocalPlaces(None, threads=CORES, lanes=CORES)) == [1]


def test_lanes_of_a_loop_depend_neither_on_shards_nor_on_what_is_worth_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("embedmill.engines.local.cores", lambda _: 20)
    every = LocalPlaces(None, lanes=8).look(99, ()).free
    assert [place.lanes for place in every] == [7, 7, 6]
    assert LocalPlaces(None, lanes=8).look(1, ()).free == every[:1]
    assert LocalPlaces(None, lanes=8, worth=1).look(99, ()).free == every[:1]


def test_workers_that_are_stated_have_one_lane_each() -> None:
    assert lanes(LocalPlaces(3, lanes=8)) == [1, 1, 1]


def test_a_shard_of_a_loop_with_lanes_keeps_as_many_cores_busy() -> None:
    assert cores_at_once(1, None, CORES) == CORES
    assert cores_at_once(1, None, 1) == 1
    assert cores_at_once(100, None, 1) == CORES
    assert cores_at_once(1, None, 8, every=20) == 7, "three loops share twenty cores"
    assert cores_at_once(1, 4, CORES) == 1, "workers that are stated have no lanes"
