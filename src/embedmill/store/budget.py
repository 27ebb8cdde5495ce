"""When a call of a struggling store is repeated, and how often all calls together may be."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class RetryPolicy:
    """How long and how often; the defaults outlast an outage of two minutes.

    A wait is drawn evenly between 0 and a limit that doubles from retry to retry, so that clients do not
    come back in step ("full jitter",
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).

    Retries are paid from a budget that all calls of a store share. It is full at first, calls that get an
    answer fill it, and it trickles in with time. The first rule bounds what a struggling store sees: with
    `earned` 0.5 one retry for two calls, of at most two requests each, so no more than twice the calm
    count. The second keeps a few requests going when nothing is answered any more: a process sends a
    dead store one retry a second, finds out within seconds that it is back, and no call is given up before
    its deadline for want of budget. It only waits.
    """

    deadline_s: float = 180.0
    """From a call's first try to its last; of a list, from the last object that came."""
    first_contact_s: float = 20.0
    """The same where nothing can be reached at the address, and never was: it is likelier wrong than down."""
    first_wait_s: float = 0.1
    longest_wait_s: float = 10.0
    burst: float = 20.0
    """Retries in hand at first, and at most."""
    earned: float = 0.5
    """Retries that a call earns by getting an answer."""
    trickle_per_s: float = 1.0
    """Retries that come in a second; more than 0."""

    def longest_wait(self, retry: int) -> float:
        """The limit of the wait before a retry, in seconds; the first is number 1."""
        return min(self.longest_wait_s, self.first_wait_s * 2.0 ** min(retry - 1, 60))


class RetryBudget:
    """A token bucket of retries. It may be in debt: who reserves a retry then waits until it is paid."""

    def __init__(self, policy: RetryPolicy, clock: Callable[[], float]) -> None:
        """Start full."""
        self._policy = policy
        self._clock = clock
        self._lock = threading.Lock()
        self._retries = policy.burst
        self._filled_s = clock()

    def earn(self) -> None:
        """Note that a call got its answer."""
        with self._lock:
            self._fill(self._policy.earned)

    def reserve(self, limit_s: float) -> float:
        """Take a retry; returns the seconds until it is paid, or `limit_s` if that would be longer.

        In the second case nothing is taken: a call's last try, at its deadline, is free.
        """
        with self._lock:
            self._fill(0.0)
            wait_s = max(0.0, (1.0 - self._retries) / self._policy.trickle_per_s)
            if wait_s > limit_s:
                return limit_s
            self._retries -= 1.0
            return wait_s

    def _fill(self, earned: float) -> None:
        now_s = self._clock()
        trickled = (now_s - self._filled_s) * self._policy.trickle_per_s
        self._retries = min(self._policy.burst, self._retries + earned + trickled)
        self._filled_s = now_s
