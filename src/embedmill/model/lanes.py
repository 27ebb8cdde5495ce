"""Lanes: batches of one shard that are computed beside each other, each in a thread of its own."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from embedmill.spec import OnnxSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

    from embedmill.model.package import ModelPackage

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

MOST_LANES = 8
"""Of one process: between two batches each needs Python's lock for a moment."""


def lanes_of(package: ModelPackage) -> int:
    """How many lanes a process may have for this package's items on CPUs; 1: it has to be a process each.

    A session of ONNX Runtime computes in the very thread that asks, and lets others run meanwhile. Of other
    runtimes that is not known, and what makes arrays of images has more to do than one thread can.
    """
    runtimes = package.spec.runtimes_for("item")
    shared = all(isinstance(each, OnnxSpec) for each in runtimes) and not package.inputs("item").image_fields
    return MOST_LANES if shared else 1


def in_threads(make: Callable[[], ResultT], count: int) -> tuple[ResultT, ...]:
    """What `make` makes, so many times, all at once; the first error is raised once all have ended."""
    if not count:
        return ()
    with ThreadPoolExecutor(count) as threads:
        return tuple(threads.map(lambda _: make(), range(count)))


def in_lanes(
    works: Sequence[Callable[[ItemT], ResultT]], items: Iterable[ItemT]
) -> Generator[tuple[ItemT, ResultT]]:
    """Each item with what one of `works` makes of it, in order; each of them is one thread's, a lane.

    As many items again wait, so that no lane does for an earlier one. An error is raised where its result
    would be, and what is in work ends before; so it does when the iterator is closed. One lane has no thread.
    """
    if len(works) == 1:
        for item in items:
            yield item, works[0](item)
        return
    begun: deque[tuple[ItemT, Future[ResultT]]] = deque()
    mine, free = threading.local(), list(works)

    def begin() -> None:
        mine.work = free.pop()

    def made(item: ItemT) -> ResultT:
        work: Callable[[ItemT], ResultT] = mine.work
        return work(item)

    with ThreadPoolExecutor(len(works), "lane", initializer=begin) as threads:
        try:
            for item in items:
                begun.append((item, threads.submit(made, item)))
                if len(begun) > 2 * len(works):
                    yield _first(begun)
            while begun:
                yield _first(begun)
        finally:
            for _, each in begun:
                each.cancel()


def _first(begun: deque[tuple[ItemT, Future[ResultT]]]) -> tuple[ItemT, ResultT]:
    item, computed = begun.popleft()
    return item, computed.result()
