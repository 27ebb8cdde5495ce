"""Deadlines: a time of day, by this clock, when a release of the last 24 hours should be live."""

from __future__ import annotations

from datetime import datetime, timedelta

FRESH = timedelta(hours=24)


def next_deadline(deadline: str, now: datetime) -> datetime:
    """The next moment at which the machine's clock says so; `now` with any time zone."""
    local = now.astimezone()
    hour, minute = map(int, deadline.split(":"))
    today = local.replace(hour=hour, minute=minute, second=0, microsecond=0)
    return today if today > local else _days_later(today, 1)


def is_late(deadline: str, published: datetime | None, now: datetime) -> bool:
    """Whether the last deadline passed with no release of the 24 hours before it, and there is none since."""
    last = _days_later(next_deadline(deadline, now), -1)
    return published is None or published < last - FRESH


def _days_later(moment: datetime, days: int) -> datetime:
    """The same time of day, also where clocks are changed in between."""
    naive = moment.replace(tzinfo=None) + timedelta(days=days)
    return naive.astimezone()
