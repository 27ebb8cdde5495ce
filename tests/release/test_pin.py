"""Pins: a release that is never retired, until someone says otherwise."""

from __future__ import annotations

import pytest
from tests.support.mill import Mill, items
from tests.support.upkeep import at_call, watched

from embedmill.errors import ReleaseMissing
from embedmill.release.admin import pin, rollback, unpin
from embedmill.release.describe import list_releases
from embedmill.release.log import append, read_history


def test_a_pin_is_an_entry_with_its_note_and_lasts_until_it_is_lifted(mill: Mill) -> None:
    first = mill.run(items(8))
    mill.run(items(9))
    report = pin(mill.home, "1", note="the one in the paper")
    assert (report.release, report.pinned, report.number) == (first.release, True, 3)
    pinned = read_history(mill.home).pinned
    assert {release: entry.note for release, entry in pinned.items()} == {
        first.release: "the one in the paper"
    }
    assert unpin(mill.home, first.release).number == 4
    assert not read_history(mill.home).pinned


def test_pinning_what_is_pinned_and_unpinning_what_is_not_write_nothing(mill: Mill) -> None:
    mill.run(items(8))
    assert unpin(mill.home, "1").number is None
    assert pin(mill.home, "1").number == 2
    assert pin(mill.home, "1").number is None
    assert read_history(mill.home).next_number == 3


def test_only_a_release_that_is_there_can_be_pinned(mill: Mill) -> None:
    first = mill.run(items(8))
    mill.run(items(9))
    with pytest.raises(ReleaseMissing, match="no release '7'"):
        pin(mill.home, "7")
    append(mill.home, read_history(mill.home), "retire", first.release)
    for mark in (pin, unpin):
        with pytest.raises(ReleaseMissing, match=r"was retired on \S+ by log entry 3"):
            mark(mill.home, "1")


def test_a_pin_that_was_slower_than_another_writer_takes_the_next_number(mill: Mill) -> None:
    mill.run(items(8))
    mill.run(items(9))
    home = mill.home
    once = at_call(3, lambda: rollback(home, "1"))  # the log is read: three gets
    assert pin(watched(home, before=once), "2").number == 4
    assert [entry.kind for entry in read_history(home).entries] == ["publish", "publish", "rollback", "pin"]


def test_a_pin_that_was_slower_than_the_collector_says_that_the_release_was_retired(mill: Mill) -> None:
    first = mill.run(items(8))
    mill.run(items(9))
    home = mill.home
    once = at_call(3, lambda: append(home, read_history(home), "retire", first.release))
    with pytest.raises(ReleaseMissing, match="was retired"):
        pin(watched(home, before=once), "1")
    assert not read_history(home).pinned


def test_the_list_says_what_is_pinned_and_what_is_on_hold(mill: Mill) -> None:
    mill.run(items(8))
    mill.run(items(9))
    pin(mill.home, "2")
    rollback(mill.home, "1")
    listed = [(each.number, each.live, each.pinned, each.hold) for each in list_releases(mill.home)]
    assert listed == [(1, True, False, True), (2, False, True, False)]
