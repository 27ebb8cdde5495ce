"""An event loop in a thread of its own, for code that is called from anywhere."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import wait
from typing import Any, TypeVar

T = TypeVar("T")
TICK_S = 0.5
CLOSING_S = 5.0


class EventLoop:
    """Runs coroutines of other threads, which wait for them and can be interrupted.

    The thread never keeps the process from ending.
    """

    def __init__(self, name: str) -> None:
        """Start the thread."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], while_waiting: Callable[[], object] | None = None) -> T:
        """Wait for a coroutine; Ctrl-C, and what `while_waiting` raises, end the wait and the coroutine."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            while while_waiting is not None and not wait([future], TICK_S).done:
                while_waiting()
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a last coroutine, and end the thread."""
        last = asyncio.run_coroutine_threadsafe(work, self._loop)
        last.add_done_callback(lambda _: self._loop.call_soon_threadsafe(self._loop.stop))
        if threading.current_thread() is not self._thread:  # garbage is collected in any thread
            self._thread.join(CLOSING_S)
            if not self._thread.is_alive():
                self._loop.close()
