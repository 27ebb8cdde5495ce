"""That an engine waits for an answer, told as a warning: nobody must wonder whether a run hangs."""

from __future__ import annotations

import logging
import time

TELL_AFTER_S, TELL_EVERY_S = 3.0, 10.0
"""As of stores: a wait of less is nobody's concern."""
LOGGER = logging.getLogger("embedmill.engines")


class Waiting:
    """One wait for `who`, from now on: told once it is long, every now and then, and when it is over."""

    def __init__(self, who: str) -> None:
        """`who` is to answer, such as `Jenkins`."""
        self._who, self._began_s = who, time.monotonic()
        self._told_s: float | None = None

    def waited_s(self) -> float:
        """For how long so far."""
        return time.monotonic() - self._began_s

    def until_due_s(self) -> float:
        """How long until the wait is to be told, or told again; 0 where that is now."""
        last_s = self._began_s + TELL_AFTER_S if self._told_s is None else self._told_s + TELL_EVERY_S
        return max(0.0, last_s - time.monotonic())

    def tell(self, words: str, left_s: float) -> None:
        """Say why there is no answer, if that is due, and how much longer one is waited for."""
        if self.until_due_s() > 0:
            return
        self._told_s = time.monotonic()
        LOGGER.warning("%s; trying again for up to %.0f s more", words, max(0.0, left_s))

    def answered(self) -> None:
        """Say so, where somebody was told to wait for it."""
        if self._told_s is not None:
            LOGGER.warning("%s answers again, after %.0f s", self._who, self.waited_s())
