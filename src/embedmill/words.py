"""Counts in sentences: one thing is, two things are."""

from __future__ import annotations

SEVERAL = {"is": "are", "has": "have"}


def counted(count: int, what: str, several: str = "") -> str:
    """Such as `1 sample` or `60 samples`; `several`: the plural, where it is not `what` with an s."""
    return f"{count:,} {what if count == 1 else several or what + 's'}"


def portion(part: int, whole: int, what: str, said: str) -> str:
    """Such as `1 of 20 items is new` or `2 of 20 items are new`; `said` of one: `is …` or `has …`."""
    verb, rest = said.split(" ", 1)
    return f"{part:,} of {counted(whole, what)} {verb if 1 in (part, whole) else SEVERAL[verb]} {rest}"
