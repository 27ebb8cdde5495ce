"""Lanes: batches that one loaded model computes beside each other, each in a thread of its own."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from embedmill.spec import OnnxSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from embedmill.model.package import ModelPackage

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

MOST_LANES = 8
"""Of one process: between two batches each needs Python's lock for a moment."""


def lanes_of(package: ModelPackage) -> int:
    """How many lanes a process may have for this package's items on CPUs; 1: it has to be a process each.

    Any thread may ask a session of ONNX Runtime for a batch, which is computed by this very thread. Of other
    runtimes that is not known, and what makes arrays of images has more to do than one thread can.
    """
    runtimes = package.spec.runtimes_for("item")
    shared = all(isinstance(each, OnnxSpec) for each in runtimes) and not package.inputs("item").image_fields
    return MOST_LANES if shared else 1


def in_lanes(
    work: Callable[[ItemT], ResultT], items: Iterable[ItemT], lanes: int
) -> Generator[tuple[ItemT, ResultT]]:
    """Each item with what `work` makes of it, in order; as many are in work as there are lanes.

    As many again wait, so that no lane does for an earlier one. An error is raised where its result would be,
    and what is in work ends before; so it does when the iterator is closed. With one lane there is no thread.
    """
    if lanes == 1:
        for item in items:
            yield item, work(item)
        return
    begun: deque[tuple[ItemT, Future[ResultT]]] = deque()
    with ThreadPoolExecutor(lanes, "lane") as threads:
        try:
            for item in items:
                begun.append((item, threads.submit(work, item)))
                if len(begun) > 2 * lanes:
                    yield _first(begun)
            while begun:
                yield _first(begun)
        finally:
            for _, each in begun:
                each.cancel()


def _first(begun: deque[tuple[ItemT, Future[ResultT]]]) -> tuple[ItemT, ResultT]:
    item, computed = begun.popleft()
    return item, computed.result()
