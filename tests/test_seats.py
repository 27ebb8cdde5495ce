"""A run has no more loops than it has seats, and tells how it stands."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from tests.support.mill import Mill, items

from embedmill.driving import LocalPlaces, drive
from embedmill.engines import LocalEngine
from embedmill.release.runs import commit_records
from embedmill.seats import SeatFolder, SharedPlaces, Standing
from embedmill.types import Progress
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
