"""Versions of drivers, toolkits and frameworks: `535.183.01`, `12.2`; compared number by number."""

from __future__ import annotations

import re

Version = tuple[int, ...]
"""Without zeros at the end, so that 12 and 12.0 are equal."""


def parsed(text: str) -> Version:
    """The numbers that a version begins with: `2.15.0+cu126` is (2, 15).

    Raises:
        ValueError: It begins with no number.
    """
    found = re.match(r"v?(\d+(?:\.\d+)*)", text.strip())
    if found is None:
        raise ValueError(f"{text!r} is not a version")
    numbers = [int(number) for number in found[1].split(".")]
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def pair(text: str) -> tuple[int, int]:
    """(major, minor): of a toolkit, or a compute capability.

    Raises:
        ValueError: See `parsed`.
    """
    major, minor = (*parsed(text), 0)[:2]
    return major, minor


def dotted(version: tuple[int, ...]) -> str:
    """Such as 12.2."""
    return ".".join(map(str, version))
