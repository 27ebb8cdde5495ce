"""Stages that overlap: threads with bounded queues between them, and how long each stage was busy.

    read ─▶ fetch ─▶ prepare ─▶ [a shard] ─▶ batch ─▶ [batches] ─▶ runtime ─▶ [a shard] ─▶ write
    └───── thread "ahead" ────┘              └ "batch" ┘        main thread, lanes         └ "behind" ┘

"batch" goes on with the next shard, if that is ready, while the last batches of one are computed, and lanes
that have none left begin with those (`feeder`).
What costs time there (files, sockets, tokenizers, ONNX Runtime) releases Python's lock, so threads suffice.
Without threads the same steps follow each other: a simulation has one thread at a time.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from embedmill.errors import Yielded
from embedmill.types import STAGES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import TracebackType

ItemT = TypeVar("ItemT")
ROOM, ROOM_S = 1.5, 0.5
"""The next shard is claimed so many times earlier than making one ready takes, and so many seconds."""
WAIT_S, HURRY_S = 0.1, 1.0
_END = object()


def _nothing() -> None:
    """Tell nobody."""


class StageTimes:
    """Seconds for which each stage was busy; each stage is one thread's, and any thread may look."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Of a clock in seconds."""
        self._clock = clock
        self._spent_s = dict.fromkeys(STAGES, 0.0)
        self._began_s: dict[str, float] = {}
        self._queues: dict[str, Callable[[], int]] = {}

    @contextlib.contextmanager
    def during(self, stage: str) -> Iterator[None]:
        """The stage is busy inside the block."""
        self._begin(stage)
        try:
            yield
        finally:
            self._end(stage)

    def each(self, stage: str, items: Iterable[ItemT]) -> Iterator[ItemT]:
        """The items; the stage is busy while one is made."""
        found = iter(items)
        while True:
            with self.during(stage):
                item = next(found, _END)
            if item is _END:
                return
            yield item  # type: ignore[misc]

    def waiting(self, stage: str, items: Iterable[ItemT]) -> Iterator[ItemT]:
        """The items; the stage, busy otherwise, waits while one is made."""
        found = iter(items)
        while True:
            self._end(stage)
            try:
                item = next(found, _END)
            finally:
                self._begin(stage)
            if item is _END:
                return
            yield item  # type: ignore[misc]

    def watch(self, stage: str, depth: Callable[[], int]) -> None:
        """`depth` tells how much waits for this stage."""
        self._queues[stage] = depth

    def told(self) -> dict[str, Any]:
        """`stages`: seconds of each stage; `queued`: what waits for it; `bottleneck`: the busiest one."""
        seconds = self.seconds()
        busiest = max(seconds, key=lambda stage: seconds[stage])
        return {
            "stages": {stage: round(spent, 1) for stage, spent in seconds.items()},
            "queued": {stage: depth() for stage, depth in list(self._queues.items())},  # any thread looks
            "bottleneck": busiest if seconds[busiest] else "",
        }

    def seconds(self) -> Mapping[str, float]:
        """By now, of each stage: what is going on counts, so that a stage that hangs is seen."""
        began_s, now_s = dict(self._began_s), self._clock()
        return {
            stage: spent + (now_s - began_s[stage] if stage in began_s else 0.0)
            for stage, spent in self._spent_s.items()
        }

    def _begin(self, stage: str) -> None:
        self._began_s[stage] = self._clock()

    def _end(self, stage: str) -> None:
        began_s = self._began_s.pop(stage, None)
        if began_s is not None:  # Ctrl-C may come between an end and the begin after it
            self._spent_s[stage] += self._clock() - began_s


class NextShard:
    """When to claim the next shard: as late as may be, so that loops which are idle find the last ones free.

    That is once the shard in hand needs no longer than making one ready does, with some room; or once the
    arrays of its last batch are made: nothing would be left to do for what makes them.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """Of a clock in seconds."""
        self._clock = clock
        self._takes_s = 0.0
        self._wanted = threading.Semaphore(0)
        self._waiting = threading.Lock()
        """Free while a shard is in hand and the next one not wanted yet."""
        self._waiting.acquire()

    def takes(self, seconds: float) -> None:
        """A shard was made ready in so many seconds; the next one is not wanted yet."""
        self._takes_s = seconds

    def wait(self) -> None:
        """Until the next one is wanted."""
        self._wanted.acquire()

    def give_up(self) -> None:
        """Nobody waits any more."""
        self._wanted.release()

    def hurry(self) -> None:
        """The next one is wanted now, if a shard is in hand: one shard ahead, and no more."""
        if self._waiting.acquire(blocking=False):
            self._wanted.release()

    @contextlib.contextmanager
    def while_at_work(self, rows: int) -> Iterator[Callable[[int], None]]:
        """A shard of so many rows is in hand; gives what is told of rows that are done."""
        began_s, done = self._clock(), 0
        limit_s = ROOM * self._takes_s + ROOM_S

        def tell(more: int) -> None:
            nonlocal done
            done += more
            left_s = (self._clock() - began_s) / done * (rows - done) if done else float("inf")
            if left_s <= limit_s:
                self.hurry()

        self._waiting.release()
        yield tell
        self.hurry()


class Ahead(Generic[ItemT]):
    """Items that a thread makes before they are asked for: `depth` of them wait, and one more is being made.

    What making one raises is raised where it would have been returned. Leaving the `with` block waits until
    the thread ends, after the item in hand; those that nobody asked for are lost. Ctrl-C waits a second.
    """

    def __init__(
        self, items: Iterable[ItemT], *, depth: int, name: str, on_stop: Callable[[], None] | None = None
    ) -> None:
        """Begin at once. `on_stop` wakes whatever makes items, where it waits for something."""
        self._on_stop = on_stop
        self._items = iter(items)
        self._made: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(depth)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def depth(self) -> int:
        """How many wait."""
        return self._made.qsize()

    def __enter__(self) -> Iterator[ItemT]:
        return self._taken()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stopped.set()
        if self._on_stop is not None:
            self._on_stop()
        limit_s = time.monotonic() + (HURRY_S if kind is KeyboardInterrupt else float("inf"))
        while self._thread.is_alive() and time.monotonic() < limit_s:
            with contextlib.suppress(queue.Empty):  # it may wait for room
                self._made.get_nowait()
            self._thread.join(0.01)

    def _taken(self) -> Iterator[ItemT]:
        while True:
            item, error = self._made.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item

    def _run(self) -> None:
        try:
            for item in self._items:
                self._made.put((item, None))
                if self._stopped.is_set():
                    return
            self._made.put((_END, None))
        except BaseException as error:  # noqa: BLE001 - it is raised where the items are taken
            self._made.put((None, error))


class Behind(Generic[ItemT]):
    """Does something to one item after the other in a thread: one is in work, and one more may wait.

    The first error is raised by the next `put`, or when the `with` block is left, also instead of a
    `Yielded`; nothing is done after it. The block is left once all that was put is done, whatever ended it.
    """

    def __init__(
        self,
        work: Callable[[ItemT], None],
        *,
        name: str,
        on_wait: Callable[[], None] = _nothing,
        on_error: Callable[[], None] = _nothing,
    ) -> None:
        """Begin at once. `on_wait` is called again and again while `put` waits, `on_error` in the thread."""
        self._work, self._on_wait, self._on_error = work, on_wait, on_error
        self._left: queue.Queue[Any] = queue.Queue(1)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def depth(self) -> int:
        """How many wait."""
        return self._left.qsize()

    def put(self, item: ItemT) -> None:
        """Leave an item to the thread; waits for room."""
        while self._error is None:
            with contextlib.suppress(queue.Full):
                return self._left.put(item, timeout=WAIT_S)
            self._on_wait()
        raise self._error

    def __enter__(self) -> Callable[[ItemT], None]:
        return self.put

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left.put(_END)
        self._thread.join()
        if self._error is not None and isinstance(error, Yielded | None):
            raise self._error from None

    def _run(self) -> None:
        while (item := self._left.get()) is not _END:
            if self._error is None:
                try:
                    self._work(item)
                except BaseException as error:  # noqa: BLE001 - it is raised where items are put
                    self._error = error
                    self._on_error()
