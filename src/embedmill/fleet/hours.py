"""Hours such as `Mon-Fri 08:00-20:00`: is a moment within them, and until when?

They are hours of the clock on the wall: a range that ends at or before its beginning ends on the day after,
and a clock that is put back or forward makes a range longer, never shorter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from embedmill.spec.fleet import DAYS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DAY = timedelta(days=1)
LONGEST = timedelta(days=8)
"""Ranges that follow each other for longer than a week have no end."""


@dataclass(frozen=True)
class Within:
    """A moment is within some hours: `until` when, in their zone; None: without end."""

    until: datetime | None

    def words(self, now: datetime) -> str:
        """Such as `until 20:00`, or `until Mon 08:00`; nothing where there is no end."""
        if self.until is None:
            return ""
        here = now.astimezone(self.until.tzinfo)
        day = "" if self.until.date() == here.date() else f"{DAYS[self.until.weekday()]} "
        return f"until {day}{self.until:%H:%M}"


def within(hours: Sequence[str], moment: datetime, timezone: str) -> Within | None:
    """Whether a moment with a time zone is within any of the hours; None: it is not.

    `until` is the end of what follows without a gap: of `08:00-20:00` and `20:00-24:00` it is midnight.

    Raises:
        ValueError: The moment has no time zone, or hours are none.
    """
    if moment.tzinfo is None:
        raise ValueError("a moment without a time zone is none")
    zone = ZoneInfo(timezone)
    start = end = moment.astimezone(UTC)
    while (later := _end(hours, end, zone)) is not None:
        end = later
        if end - start > LONGEST:
            return Within(None)
    return None if end == start else Within(end.astimezone(zone))


def _end(hours: Sequence[str], moment: datetime, zone: ZoneInfo) -> datetime | None:
    """The latest end of the ranges that a moment is in, in UTC."""
    today = moment.astimezone(zone).date()
    ranges = [each for text in hours for each in _ranges(text, today, zone)]
    return max((end for begin, end in ranges if begin <= moment < end), default=None)


def _ranges(hours: str, today: date, zone: ZoneInfo) -> Iterator[tuple[datetime, datetime]]:
    """The ranges that begin yesterday or today, in UTC."""
    days, begin, end = parsed(hours)
    for day in (today - DAY, today):
        if day.weekday() in days:
            last = day if begin < end else day + DAY
            yield min(_instants(day, begin, zone)), max(_instants(last, end, zone))


def _instants(day: date, minutes: int, zone: ZoneInfo) -> list[datetime]:
    """What a time of the wall may mean: two instants where the clock is put back or forward."""
    wall = datetime.combine(day, time(), zone) + timedelta(minutes=minutes)
    return [wall.replace(fold=fold).astimezone(UTC) for fold in (0, 1)]


def parsed(hours: str) -> tuple[frozenset[int], int, int]:
    """Weekdays (0 is Monday), and minutes of the day from … to.

    Raises:
        ValueError: They are no such hours.
    """
    found = re.fullmatch(r"(?:(\w{3})(?:-(\w{3}))? )?(\d\d):(\d\d)-(\d\d):(\d\d)", hours)
    if found is None:
        raise ValueError(f"{hours!r} are no hours")
    first, last, *clock = found.groups()
    from_hour, from_minute, to_hour, to_minute = map(int, clock)
    days = frozenset(range(7))
    if first:
        begin, end = DAYS.index(first), DAYS.index(last or first)
        days = frozenset((begin + step) % 7 for step in range((end - begin) % 7 + 1))
    return days, from_hour * 60 + from_minute, to_hour * 60 + to_minute
