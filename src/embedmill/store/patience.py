"""How long calls of a store wait for an answer, and that people hear of it.

Waiting is told through the logger `embedmill.store`, and not through a callable that is handed in: stores
are opened by URL in many places, in workers too, and who uses this library has a place where warnings go
already. With no logging set up Python prints warnings on stderr; the commands do the same, a line each.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from embedmill.store.budget import RetryPolicy

TELL_AFTER_S = 3.0
"""What takes less is nobody's concern."""
TELL_EVERY_S = 10.0
LOGGER = logging.getLogger("embedmill.store")
LOOK_S = 0.1
_thread = threading.local()


def given_up_by() -> tuple[threading.Event, ...]:
    """Events, any of which says that nobody waits any more for what this thread does."""
    events: tuple[threading.Event, ...] = getattr(_thread, "events", ())
    return events


@contextlib.contextmanager
def pauses_end_with(*events: threading.Event) -> Iterator[None]:
    """Within it, this thread's pauses end with any of these: Ctrl-C ends only those of the main thread."""
    before, _thread.events = given_up_by(), events
    try:
        yield
    finally:
        _thread.events = before


def pause(seconds: float) -> bool:
    """Sleep; whether nobody waits any more for what this thread does, which ends the sleep."""
    events = given_up_by()
    if not events:
        time.sleep(seconds)
        return False
    ends = time.monotonic() + seconds
    while not any(event.is_set() for event in events):
        left_s = ends - time.monotonic()
        if left_s <= 0:
            return False
        events[-1].wait(min(left_s, LOOK_S))
    return True


class Patience:
    """What all calls of a store share: whether anything ever answered, and when waiting was last told."""

    def __init__(self, url: str, policy: RetryPolicy, clock: Callable[[], float], *, known: bool) -> None:
        """`known`: the address is right, since something answered there in an earlier process."""
        self._url, self._policy, self._clock = url, policy, clock
        self._known = known
        self._lock = threading.Lock()
        self._told_s: float | None = None
        self._silent_since_s: float | None = None

    def answered(self) -> None:
        """Note an answer; says so where somebody was told to wait for it."""
        self._known = True
        if self._silent_since_s is None:
            return
        with self._lock:
            since_s, self._silent_since_s = self._silent_since_s, None
        if since_s is not None:
            LOGGER.warning("the store %s answers again, after %.0f s", self._url, self._clock() - since_s)

    def limit_s(self, *, reached: bool) -> float:
        """How long a call may take from its first try; `reached`: one of its tries had a connection."""
        policy = self._policy
        if reached or self._known:
            return policy.deadline_s
        return min(policy.first_contact_s, policy.deadline_s)

    def tell(self, why: str, waited_s: float, wait_s: float, left_s: float) -> None:
        """Say that a call waits, and why, if that is going to be long enough and was not said just now."""
        if waited_s + wait_s < TELL_AFTER_S:
            return
        with self._lock:
            now_s = self._clock()
            if self._told_s is not None and now_s - self._told_s < TELL_EVERY_S:
                return
            self._told_s = now_s
            if self._silent_since_s is None:
                self._silent_since_s = now_s - waited_s
        LOGGER.warning(
            "the store %s gives no answer: %s; trying again for up to %.0f s more", self._url, why, left_s
        )
