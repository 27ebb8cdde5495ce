"""Names of runs: in order of time, to the millisecond, and beside those of older versions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from embedmill.release.layout import Home, named_at
from embedmill.store.memory import MemoryStore
from embedmill.world import World

MIDNIGHT = datetime(2026, 1, 31, 23, 59, 59, 999_400, tzinfo=UTC)


class Ticking(World):
    """A clock that is a millisecond later each time; names end in ever smaller tokens."""

    def __init__(self, begin: datetime) -> None:
        self._next, self._tokens = begin, iter(range(0xFFFF, 0, -1))

    def now(self) -> datetime:
        now, self._next = self._next, self._next + timedelta(milliseconds=1)
        return now

    def token(self, size_bytes: int) -> str:
        return f"{next(self._tokens):0{2 * size_bytes}x}"


def test_names_sort_as_their_runs_began_within_a_second_and_beyond_it() -> None:
    home = Home(MemoryStore(), "p", Ticking(MIDNIGHT - timedelta(milliseconds=1500)))
    names = [home.new_run() for _ in range(3000)]
    assert names == sorted(names)
    assert names[0] == "20260131T235958499-ffff"
    assert len({len(name) for name in names}) == 1


def test_names_of_whole_seconds_sort_before_those_of_the_same_second_and_after_earlier_ones() -> None:
    earlier, same = (Home(MemoryStore(), "p", Ticking(MIDNIGHT - timedelta(seconds=s))) for s in (1, 0))
    old = "20260131T235959-3f9c"
    assert earlier.new_run() < old < same.new_run()
    midnight = Home(MemoryStore(), "p", Ticking(MIDNIGHT.replace(microsecond=0)))
    assert old < midnight.new_run() == "20260131T235959000-ffff"


@pytest.mark.parametrize(
    ("name", "began"),
    [
        ("20260131T235959-3f9c", MIDNIGHT.replace(microsecond=0)),
        ("20260131T235959999-3f9c", MIDNIGHT.replace(microsecond=999_000)),
        ("20260131T235959000-dead", MIDNIGHT.replace(microsecond=0)),
        ("20260231T235959000-dead", None),
        ("20260131-3f9c", None),
        ("readme.txt", None),
        ("", None),
    ],
)
def test_a_name_says_when_its_run_began_or_that_it_is_no_runs(name: str, began: datetime | None) -> None:
    assert named_at(name) == began
