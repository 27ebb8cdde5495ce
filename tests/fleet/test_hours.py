"""Hours of reservations: days, nights, zones, and clocks that are put forward and back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedmill.fleet.hours import Within, within
from embedmill.spec.fleet import DAYS, checked_hours


def until(hours: list[str], moment: str, zone: str = "UTC") -> str | None:
    """When the hours end that a moment of the wall in the zone is in."""
    now = datetime.fromisoformat(moment).replace(tzinfo=ZoneInfo(zone))
    found = within(hours, now, zone)
    if found is None:
        return None
    return found.until.strftime("%a %H:%M") if found.until else "never"


@pytest.mark.parametrize(
    ("hours", "moment", "end"),
    [
        ("08:00-20:00", "2026-01-30T08:00", "Fri 20:00"),
        ("08:00-20:00", "2026-01-30T19:59:59", "Fri 20:00"),
        ("08:00-20:00", "2026-01-30T20:00", None),
        ("08:00-20:00", "2026-01-30T07:59", None),
        ("Mon-Fri 08:00-20:00", "2026-01-30T12:00", "Fri 20:00"),
        ("Mon-Fri 08:00-20:00", "2026-01-31T12:00", None),
        ("Sat 08:00-20:00", "2026-01-31T12:00", "Sat 20:00"),
        ("Fri-Mon 08:00-20:00", "2026-02-01T12:00", "Sun 20:00"),
        ("Fri-Mon 08:00-20:00", "2026-02-03T12:00", None),
        ("22:00-06:00", "2026-01-30T23:00", "Sat 06:00"),
        ("22:00-06:00", "2026-01-30T05:59", "Fri 06:00"),
        ("22:00-06:00", "2026-01-30T06:00", None),
        ("Fri 22:00-06:00", "2026-01-31T05:00", "Sat 06:00"),
        ("Fri 22:00-06:00", "2026-01-30T05:00", None),
        ("Sun 22:00-06:00", "2026-02-02T05:00", "Mon 06:00"),
        ("20:00-24:00", "2026-01-30T23:59", "Sat 00:00"),
        ("Fri 08:00-08:00", "2026-01-31T07:59", "Sat 08:00"),
        ("00:00-24:00", "2026-01-30T12:00", "never"),
        ("Sat-Sun 00:00-24:00", "2026-01-31T12:00", "Mon 00:00"),
    ],
)
def test_until_when(hours: str, moment: str, end: str | None) -> None:
    assert until([hours], moment) == end


def test_hours_that_follow_each_other_are_one() -> None:
    night = ["20:00-24:00", "00:00-08:00"]
    assert until(night, "2026-01-30T21:00") == "Sat 08:00"
    assert until([*night, "Sat 07:00-10:30"], "2026-01-30T21:00") == "Sat 10:30"
    assert until([*night, "08:00-20:00"], "2026-01-30T21:00") == "never"


def test_hours_are_those_of_the_fleets_zone() -> None:
    noon = datetime(2026, 7, 1, 12, tzinfo=UTC)
    assert within(["08:00-14:00"], noon, "UTC") is not None
    assert within(["08:00-14:00"], noon, "Europe/Berlin") is None
    assert within(["08:00-14:00"], noon, "America/New_York") is not None
    assert within(["08:00-14:00"], noon.astimezone(ZoneInfo("Asia/Tokyo")), "UTC") is not None


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def test_a_night_is_an_hour_shorter_or_longer_when_clocks_change() -> None:
    spring = within(["22:00-06:00"], at("2026-03-28T22:00+01:00"), "Europe/Berlin")
    autumn = within(["22:00-06:00"], at("2026-10-24T22:00+02:00"), "Europe/Berlin")
    assert spring is not None
    assert autumn is not None
    assert spring.until == at("2026-03-29T06:00+02:00")
    assert autumn.until == at("2026-10-25T06:00+01:00")


@pytest.mark.parametrize(
    ("moment", "reserved"),
    [
        ("2026-10-25T02:15+02:00", True),
        ("2026-10-25T02:45+02:00", True),
        ("2026-10-25T02:15+01:00", True),
        ("2026-10-25T02:30+01:00", False),
        ("2026-10-25T01:59+02:00", False),
    ],
)
def test_an_hour_that_comes_twice_is_reserved_from_its_first_to_its_last(moment: str, reserved: bool) -> None:
    assert (within(["02:00-02:30"], at(moment), "Europe/Berlin") is not None) is reserved


def test_hours_that_a_clock_leaves_out_are_not_lost() -> None:
    before, after = at("2026-03-29T01:45+01:00"), at("2026-03-29T03:15+02:00")
    assert within(["02:15-02:45"], before, "Europe/Berlin") is not None
    assert within(["02:15-02:45"], after, "Europe/Berlin") is not None
    assert within(["02:15-02:45"], at("2026-03-29T05:00+02:00"), "Europe/Berlin") is None


def test_words_have_the_day_only_where_it_is_another_one() -> None:
    now = datetime(2026, 1, 30, 12, tzinfo=UTC)
    assert Within(now + timedelta(hours=8)).words(now) == "until 20:00"
    assert Within(now + timedelta(hours=20)).words(now) == "until Sat 08:00"
    assert Within(None).words(now) == ""


def test_a_moment_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="without a time zone"):
        within(["08:00-20:00"], datetime(2026, 1, 30, 12), "UTC")


clocks = st.tuples(st.integers(0, 23), st.integers(0, 59)).map(lambda each: f"{each[0]:02}:{each[1]:02}")
days = st.sampled_from(["", *(f"{day} " for day in DAYS), "Mon-Fri ", "Sat-Tue "])
some_hours = st.builds(lambda day, begin, end: f"{day}{begin}-{end}", days, clocks, clocks)
moments = st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC))
zones = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"])


@given(st.lists(some_hours, min_size=1, max_size=4), moments, zones)
def test_the_end_is_after_the_moment_and_outside_all_hours(
    hours: list[str], moment: datetime, zone: str
) -> None:
    assert list(map(checked_hours, hours)) == hours
    found = within(hours, moment, zone)
    if found is not None and found.until is not None:
        assert found.until > moment
        assert within(hours, found.until, zone) is None
        assert within(hours, found.until - timedelta(minutes=1), zone) is not None


@given(some_hours, moments, zones)
def test_more_hours_never_free_a_moment(hours: str, moment: datetime, zone: str) -> None:
    alone = within([hours], moment, zone)
    both = within([hours, "08:00-20:00"], moment, zone)
    if alone is not None:
        assert both is not None
        assert both.until is None or (alone.until is not None and both.until >= alone.until)
