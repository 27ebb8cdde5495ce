"""What tests of stores share."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from embedmill.store import Store
from embedmill.store.local import LocalStore
from embedmill.store.memory import MemoryStore

THREADS = 16


def often(store: Store, count: int) -> int:
    """How often to do what takes microseconds in a local store, and milliseconds over HTTP."""
    return count if isinstance(store, LocalStore | MemoryStore) else max(2, count // 5)


def keys(store: Store, prefix: str = "") -> list[str]:
    return [info.key for info in store.list(prefix)]


def in_threads(work: Callable[[int], object]) -> list[object]:
    """What `work` gives in each of many threads that start together."""
    start = threading.Barrier(THREADS)

    def one(number: int) -> object:
        start.wait()
        return work(number)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(one, range(THREADS)))
