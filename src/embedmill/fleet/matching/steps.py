"""One step of a match: what was asked, whether it is so, and the sentence with its numbers."""

from __future__ import annotations

from typing import NamedTuple


class Step(NamedTuple):
    """`warning`: it is so, and has a price."""

    passed: bool
    said: str
    warning: str = ""
