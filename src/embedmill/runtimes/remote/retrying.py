"""How a server that gives no answer is asked again: with waits that grow, for a while, and not in silence."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from embedmill.errors import ServerUnavailable
from embedmill.runtimes.remote.base import Unanswered

T = TypeVar("T")
KEPT = "run again when it is back: what was finished is kept"
FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 5.0
FIRST_CONTACT_S = 20.0
"""How long an address is tried where nothing ever answered: it is likelier wrong than down."""
TELL_AFTER_S = 3.0
"""What takes less is nobody's concern."""
TELL_EVERY_S = 10.0
SHORTEST_LIMIT_S = 1.0
"""How long a server is left alone that wants to be asked less: `Retry-After` has whole seconds."""
LOGGER = logging.getLogger("embedmill.runtimes")


@dataclass
class Retrying:
    """Asks a server until it answers.

    A wait is drawn evenly between 0 and a limit that doubles from try to try, so that workers do not come
    back in step; it is longer where the server says so (`Retry-After`).
    """

    server: str
    retry_for_s: float
    limited_for_s: float = 0.0
    """How long all questions together wait for a server that works and wants to be asked less often."""
    again: str = KEPT
    """What to do where it gives no answer."""
    known: bool = False
    """Whether anything ever answered there."""
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    _limited_s: float = 0.0
    """What was waited for the server's limit so far; time in which several questions wait counts once."""
    _limited_until_s: float = field(default=-math.inf)
    _told_s: float = field(default=-TELL_EVERY_S)
    _waiting: bool = False

    async def ask(self, question: Callable[[], Awaitable[T]]) -> T:
        """Ask until there is an answer.

        Raises:
            ServerUnavailable: There was none for `retry_for_s`; or the server wants to be asked less often
                than `limited_for_s` allows.
        """
        started_s, tries, limited_s = self.clock(), 0, 0.0
        while True:
            try:
                answer = await question()
            except Unanswered as error:
                self.known |= error.reached
                if error.limited and self.limited_for_s:
                    limited_s += await self._wait_for_limit(error)
                    continue
                await self._wait(error, self.clock() - started_s - limited_s, tries)
                tries += 1
            else:
                self._answered(tries, self.clock() - started_s)
                return answer

    async def _wait_for_limit(self, error: Unanswered) -> float:
        """Wait as long as the server says, in seconds, as far as `limited_for_s` allows."""
        now_s, wait_s = self.clock(), max(SHORTEST_LIMIT_S, error.wait_s or 0.0)
        until_s = now_s + wait_s
        more_s = max(0.0, until_s - max(now_s, self._limited_until_s))
        if self._limited_s + more_s > self.limited_for_s:
            raise self._too_limited(error) from error
        self._limited_s += more_s
        self._limited_until_s = max(until_s, self._limited_until_s)
        self._tell_limit(error.why)
        await self.sleep(wait_s)
        return wait_s

    async def _wait(self, error: Unanswered, passed_s: float, tries: int) -> None:
        limit_s = self.retry_for_s if self.known else min(self.retry_for_s, FIRST_CONTACT_S)
        longest_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(tries, 60))
        drawn_s = random.uniform(0, longest_s)  # noqa: S311 - no secret
        wait_s = min(drawn_s, limit_s - passed_s) if error.wait_s is None else error.wait_s
        if passed_s >= limit_s or wait_s > limit_s - passed_s:
            raise self._gone(error, passed_s) from error
        self._tell(error.why, passed_s + wait_s, limit_s - passed_s)
        await self.sleep(wait_s)

    def _gone(self, error: Unanswered, passed_s: float) -> ServerUnavailable:
        return ServerUnavailable(
            f"{self.server}: gave no answer for {passed_s:.0f} s{_asked_for(error)}: {error.why}",
            hint=self.again if self.known else f"is the address right? If it is, {self.again}",
        )

    def _too_limited(self, error: Unanswered) -> ServerUnavailable:
        waited = f", after {self._limited_s:.0f} s of waiting" if self._limited_s else ""
        return ServerUnavailable(
            f"{self.server}: wants to be asked less often{_asked_for(error)}{waited}: {error.why}",
            hint=f"let this caller ask more often; or {self.again}",
        )

    def _tell(self, why: str, waited_s: float, left_s: float) -> None:
        now_s = self.clock()
        if waited_s < TELL_AFTER_S or now_s - self._told_s < TELL_EVERY_S:
            return
        self._told_s, self._waiting = now_s, True
        LOGGER.warning("%s gives no answer: %s; asking for up to %.0f s more", self.server, why, left_s)

    def _tell_limit(self, why: str) -> None:
        now_s = self.clock()
        if self._limited_s < TELL_AFTER_S or now_s - self._told_s < TELL_EVERY_S:
            return
        self._told_s = now_s
        LOGGER.warning("%s wants to be asked less often, which takes longer: %s", self.server, why)

    def _answered(self, tries: int, passed_s: float) -> None:
        self.known = True
        if tries and self._waiting:
            self._waiting = False
            LOGGER.warning("%s answers again, after %.0f s", self.server, passed_s)


def _asked_for(error: Unanswered) -> str:
    return f", and asked to wait {error.wait_s:.0f} s" if error.wait_s else ""
