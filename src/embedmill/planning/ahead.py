"""Work that goes on in threads while what came before it is used; its results keep their order."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from embedmill.cores import cores

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

AHEAD_BYTES = 48 << 20
"""Of what is read whole and worked on at once. What is used and what is being read come on top, and copies
that the work makes."""

EachT = TypeVar("EachT")
FoundT = TypeVar("FoundT")


def read_ahead(made: Generator[EachT, None, None]) -> Generator[EachT, None, None]:
    """What a generator makes, in one thread: the next of it, while the caller works on the last.

    It is closed in that thread, too: connections of some databases may not be used by another.
    """
    with ThreadPoolExecutor(1, "ahead") as thread:
        following = thread.submit(next, made, None)
        try:
            while (found := following.result()) is not None:
                following = thread.submit(next, made, None)
                yield found
        finally:
            thread.submit(made.close).result()


def most_ahead(sizes_bytes: Sequence[int]) -> int:
    """How many things of these sizes to work on ahead: one for each core, or as many as `AHEAD_BYTES` has."""
    return min(cores(), AHEAD_BYTES // max(1, *sizes_bytes)) if sizes_bytes else cores()


def worked_ahead(
    work: Callable[[EachT], FoundT], each: Iterable[EachT], *, most: int
) -> Generator[FoundT, None, None]:
    """What `work` makes of each, in order; at most so many at once and ahead, and one that is used."""
    begun: deque[Future[FoundT]] = deque()
    with ThreadPoolExecutor(max(1, most), "ahead") as threads:
        for one in each:
            begun.append(threads.submit(work, one))
            while len(begun) > most:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
