"""Remembers hosts that are dead, so that they do not cost every image its whole patience."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from embedmill.catalog.images.base import Refused
from embedmill.types import Reason

if TYPE_CHECKING:
    from collections.abc import Callable

REST_S = 15.0
"""After so long a host is asked for one image again."""


class Circuits:
    """Counts, by host, images in a row that could not be had in all of their tries."""

    def __init__(self, threshold: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Take `threshold` failures in a row for a dead host; `clock` tells seconds."""
        self._threshold, self._clock = threshold, clock
        self._failures: dict[str, int] = {}
        self._rested: dict[str, float] = {}

    def check(self, host: str) -> None:
        """Let an image pass, if it makes sense to ask.

        Raises:
            Refused: The host is taken for dead, and was asked a moment ago.
        """
        failures = self._failures.get(host, 0)
        if failures < self._threshold:
            return
        if self._clock() - self._rested[host] < REST_S:
            raise Refused(f"was not asked for: {host} failed {failures} times in a row", Reason.FETCH_FAILED)
        self._rested[host] = self._clock()

    def answered(self, host: str) -> None:
        """The host said something sensible."""
        self._failures.pop(host, None)

    def failed(self, host: str) -> None:
        """All tries at an image failed."""
        self._failures[host] = self._failures.get(host, 0) + 1
        self._rested[host] = self._clock()
