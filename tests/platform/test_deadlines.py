"""A deadline is a time of day; it is missed when no release of the day before it is live."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from embedmill.platform.deadlines import is_late, next_deadline


@pytest.fixture(params=["UTC", "Europe/Berlin", "America/New_York"], autouse=True)
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("hour", range(24))
def test_the_next_deadline_is_within_a_day_and_has_that_time_here(hour: int) -> None:
    now = datetime(2026, 7, 1, hour, 30, tzinfo=UTC)
    due = next_deadline("06:00", now)
    assert timedelta() < due - now <= timedelta(hours=24)
    assert (due.hour, due.minute) == (6, 0)


def test_a_deadline_keeps_its_time_of_day_where_clocks_are_changed() -> None:
    due = next_deadline("06:00", datetime(2026, 3, 28, 12, tzinfo=UTC))
    assert (due.hour, due.minute) == (6, 0)


@pytest.mark.parametrize(("hours", "late"), [(1, False), (23, False), (25, True), (100, True)])
def test_a_release_older_than_a_day_at_the_last_deadline_is_late(hours: int, late: bool) -> None:
    now = datetime(2026, 7, 1, 12, tzinfo=UTC)
    last = next_deadline("06:00", now) - timedelta(days=1)
    assert is_late("06:00", last - timedelta(hours=hours), now) is late


def test_what_was_never_published_is_late_and_what_came_late_is_not_any_more() -> None:
    now = datetime(2026, 7, 1, 12, tzinfo=UTC)
    assert is_late("06:00", None, now)
    assert not is_late("06:00", now - timedelta(minutes=1), now)
