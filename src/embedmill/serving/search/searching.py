"""Threads that search, and the searches that wait for one: so many, and for so long, and no more."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from embedmill.errors import Overloaded
from embedmill.serving.lanes.pace import Pace, longest_wait_s
from embedmill.serving.observing.facts import facts

if TYPE_CHECKING:
    from concurrent.futures import Future

    from embedmill.spec import ServingSpec

T = TypeVar("T")


class SearchObserver(Protocol):
    """Hears of searches; called in their threads, so it must be quick."""

    def search_done(self, seconds: float) -> None:
        """A search took so long, without its time in the queue."""
        ...


class Searching:
    """Runs what takes long beside the event loop, as many at once as there are threads."""

    def __init__(self, threads: int, spec: ServingSpec, observer: SearchObserver | None = None) -> None:
        """Threads start when they are needed."""
        self._threads = threads
        self._spec = spec
        self._observer = observer
        self._pool = ThreadPoolExecutor(threads, "search")
        self._lock = threading.Lock()
        self._inside = 0
        self._idle_at = time.monotonic()
        self._pace = Pace(1)

    @property
    def waiting(self) -> int:
        """Searches that have no thread yet."""
        return max(0, self._inside - self._threads)

    async def run(self, work: Callable[[], T]) -> T:
        """Do `work` in a thread. Whoever cancels this frees the place in the queue.

        Raises:
            Overloaded: Too many searches wait, or this one would wait for too long.
        """
        with self._lock:
            self._admit()
            self._inside += 1
        future = self._pool.submit(self._timed, work)
        future.add_done_callback(self._left)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """End the threads; searches that wait are cancelled."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    @property
    def idle(self) -> bool:
        """See `BoundedQueue`."""
        return self._inside == 0

    def check_room(self, on_the_way: int) -> None:
        """See `BoundedQueue`."""
        with self._lock:
            self._admit(on_the_way)

    def _admit(self, on_the_way: int = 0) -> None:
        waiting = max(0, self._inside + on_the_way - self._threads)
        wait_s = waiting * self._pace.row_s
        since_idle_s = time.monotonic() - self._idle_at if waiting else 0.0
        full = waiting >= self._spec.max_searches
        if full or wait_s > longest_wait_s(self._pace, self._spec, since_idle_s):
            facts().queue = self
            raise Overloaded(
                f"{waiting} searches wait", retry_after_s=max(1, math.ceil(wait_s)), reason="searches"
            )

    def _timed(self, work: Callable[[], T]) -> T:
        started = time.monotonic()
        try:
            return work()
        finally:
            seconds = time.monotonic() - started
            with self._lock:
                self._pace.batch_done(1, seconds / self._threads)
            if self._observer is not None:
                self._observer.search_done(seconds)

    def _left(self, _: Future[Any]) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside < self._threads:
                self._idle_at = time.monotonic()
