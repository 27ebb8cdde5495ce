"""What tests of stores share."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from embedmill.store import Store
from embedmill.store.cloud import CloudStore
from embedmill.store.faults import AnswerLost, FirstOf, Late, Refused, SeededFaults
from embedmill.store.faulty import FaultyStore, VirtualClock
from embedmill.store.retrying import RetryingStore

THREADS = 16


def troubled(inner: Store, seed: int = 1) -> RetryingStore:
    """A retrying store over one of whose calls a fifth get no answer. No time passes while it waits.

    What is delayed arrives before the retry has its answer: a plain write that comes later still undoes
    what was written since, and no store can help that.
    """
    clock = VirtualClock()
    faults = FirstOf(
        SeededFaults(seed, {Late(2): 0.1}, verbs={"put_if_absent"}),
        SeededFaults(~seed, {Refused(): 0.08, AnswerLost(): 0.08, Late(1): 0.04}),
    )
    return RetryingStore(FaultyStore(inner, faults), clock=clock.now, sleep=clock.sleep)


def often(store: Store, count: int) -> int:
    """How often to do what takes microseconds in a local store, and milliseconds over HTTP."""
    return max(2, count // 5) if isinstance(store, CloudStore) else count


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
