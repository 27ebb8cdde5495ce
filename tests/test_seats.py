"""A run has no more loops than it has seats, and tells how it stands."""

from __future__ import annotations

import threading
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.mill import Mill, items

from embedmill.cores import EVERY, cores
from embedmill.driving import drive
from embedmill.engines import LocalEngine, LocalPlaces
from embedmill.platform.together import devices_of
from embedmill.release.runs import commit_records
from embedmill.seats import SeatFolder, SharedPlaces, Standing
from embedmill.types import Look, Placement, Progress
from embedmill.world import WORLD


@pytest.fixture
def seats(tmp_path: Path) -> SeatFolder:
    folder = tmp_path / "seats"
    folder.mkdir()
    return SeatFolder(folder)


def test_a_folder_without_files_or_with_damaged_ones_has_no_seats_and_no_work(seats: SeatFolder) -> None:
    assert (seats.granted(), seats.standing()) == (0, Standing())
    (seats.folder / "seats.json").write_text("{")
    assert seats.granted() == 0


def test_a_look_gives_no_more_places_than_there_are_seats(seats: SeatFolder) -> None:
    places = SharedPlaces(LocalPlaces(3), seats, WORLD)
    assert places.look(9, ()).free == ()
    assert seats.standing() == Standing(left=9, running=0, most=3, spare=3)
    seats.grant(2)
    assert [place.worker for place in places.look(9, ()).free] == ["local-0", "local-1"]
    assert [place.worker for place in places.look(9, ["local-1"]).free] == ["local-0"]
    assert places.look(9, ["local-0", "local-1"]).free == ()


@dataclass
class Servers:
    """Places on a fleet: each look takes long, so that it is rare."""

    again_s: float | None = 3600.0
    waits: bool = False
    looks: int = 0

    def look(self, most: int, held: Collection[str]) -> Look:
        self.looks += 1
        names = ("gpu-01-0", "gpu-02-0", "gpu-03-0")
        return Look(tuple(Placement(name) for name in names if name not in held), {"gpu-04": "busy"})


def test_idle_gpus_beyond_the_seats_are_told_of_and_taken_later_without_another_look(
    seats: SeatFolder,
) -> None:
    servers = Servers()
    places = SharedPlaces(servers, seats, WORLD)
    seats.grant(1)
    first = places.look(9, ())
    assert [place.worker for place in first.free] == ["gpu-01-0"]
    assert first.passed_over == {"gpu-04": "busy"}
    assert (seats.standing().spare, seats.standing().most) == (2, 3)
    seats.grant(2)
    assert [place.worker for place in places.look(9, ["gpu-01-0"]).free] == ["gpu-02-0"]
    assert seats.standing() == Standing(left=9, running=2, most=3, spare=1)
    assert servers.looks == 1


def test_idle_gpus_of_an_engine_that_was_not_asked_anew_are_kept(seats: SeatFolder) -> None:
    looks = [
        Look((Placement("gpu-01-0", engine="ssh"), Placement("cpu-0", engine="ray"))),
        Look((Placement("cpu-1", engine="ray"),), answered=frozenset({"ray"})),
    ]

    class Mixed(Servers):
        def look(self, most: int, held: Collection[str]) -> Look:
            return looks.pop(0)

    places = SharedPlaces(Mixed(again_s=0.0), seats, WORLD)
    places.look(9, ())
    seats.grant(9)
    assert [place.worker for place in places.look(9, ()).free] == ["cpu-1", "gpu-01-0"]


def test_a_fleet_has_as_many_devices_as_runs_have_and_found_idle() -> None:
    standings = [Standing(9, 2, 3, 1), Standing(9, 1, 2, 1)]
    assert devices_of("/etc/fleet.yaml", standings) == 4
    assert devices_of("local", standings) == cores(EVERY)


def test_loops_beyond_the_seats_have_to_go_the_last_ones_first(seats: SeatFolder) -> None:
    places = SharedPlaces(LocalPlaces(3), seats, WORLD)
    seats.grant(1)
    assert places.settle(["local-0", "local-1", "local-2"], 5) == ("local-1", "local-2")
    assert seats.standing().running == 3
    assert places.settle((), 0) == ()


def test_a_run_without_seats_waits_and_one_that_loses_them_commits_its_shards_before(
    mill: Mill, seats: SeatFolder
) -> None:
    mill.settings["work"] = {"shard_rows": 10}
    mill.settings["store"] = str(mill.root / "mill")
    planned = mill.planned(items(600))
    seen: list[int] = []

    def turn(progress: Progress) -> None:
        """Take the seat away once something is done, and give it back a while later."""
        if progress.done and not seen:
            seen.append(progress.done)
            seats.grant(0)
            threading.Timer(3.0, seats.grant, [1]).start()

    threading.Timer(1.0, seats.grant, [1]).start()
    places = SharedPlaces(LocalPlaces(2), seats, WORLD)
    drive(planned.home, planned.plan, mill.open().spec.work, LocalEngine(), planned.url, turn, places)
    records = list(commit_records(planned.home, planned.plan))
    assert {record.worker for record in records} == {"local-0"}
    assert len(records) == len(planned.plan.shards)
    assert seats.standing() == Standing(left=0, running=0, most=2, spare=seats.standing().spare)
