"""Lanes: batches of one shard, computed beside each other, each by a thread and a session of its own."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from embedmill.errors import OutOfMemory
from embedmill.memory import SPARE_BYTES, memory_left
from embedmill.spec import OnnxSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from embedmill.model.package import ModelPackage
    from embedmill.runtimes import Runtime

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

MOST_LANES = 8
"""Of one process: between two batches each needs Python's lock for a moment."""
MOST_FILE_LANES = 4
"""Of one that reads images: one thread makes arrays for all, and takes half a millisecond for each image."""


def lanes_of(package: ModelPackage) -> int:
    """How many lanes a process may have for this package's items on CPUs; 1: it has to be a process each.

    A session of ONNX Runtime computes in the very thread that asks, and lets others run meanwhile. Of other
    runtimes that is not known.
    """
    if not all(isinstance(each, OnnxSpec) for each in package.spec.runtimes_for("item")):
        return 1
    return MOST_FILE_LANES if package.inputs("item").image_fields else MOST_LANES


def lanes_on(package: ModelPackage, device: str, lanes: int) -> int:
    """As many as that, where the model bears several threads on the device."""
    return min(lanes, lanes_of(package)) if device == "cpu" else 1


def session_bytes(package: ModelPackage) -> int:
    """The memory that one session takes: twice its model."""
    return 2 * sum(package.path(name).stat().st_size for name in package.files())


class Sessions:
    """An encoder's runtime, and the same model opened once more for each further lane that has a batch.

    What is open stays open, for all encoders that share this. None stands for the encoder's own runtime. A
    session that memory may be too short for is not opened: there are fewer lanes from then on.
    """

    def __init__(
        self,
        lanes: int = 1,
        another: Callable[[], Runtime] | None = None,
        size_bytes: int = 0,
        left: Callable[[], int] = memory_left,
    ) -> None:
        """`another` opens a session, which takes `size_bytes`; `left` tells the bytes of memory left."""
        self.lanes = lanes if another is not None else 1
        self.opened = 1
        self.failed = False
        """Whether a batch had an error since lanes were limited; told before its session is free."""
        self._another, self._size_bytes, self._left = another, size_bytes, left
        self._free: list[Runtime | None] = [None]
        self._opening = 0
        self._changed = threading.Condition()
        self._had = threading.local()

    @contextlib.contextmanager
    def one(self) -> Iterator[Runtime | None]:
        """A session that nobody else has meanwhile; waits for one where no other may be opened."""
        session = self._taken()
        self._had.id = id(session)  # no reference, which would keep one that was let go of
        try:
            yield session
        except BaseException:
            self.failed = True
            raise
        finally:
            with self._changed:
                self._free.append(session)
                self._changed.notify()

    def open_all(self) -> None:
        """Open them all now, at once, so that no batch has to wait for its session."""
        with self._others_opened():
            pass

    @contextlib.contextmanager
    def opened_beside(self) -> Iterator[None]:
        """Open them all while the block opens the encoder's own, which needs its memory yet, too."""
        with self._changed:
            self.opened, self._opening = 0, 1
        try:
            with self._others_opened():
                yield
        finally:
            with self._changed:
                self.opened, self._opening = self.opened + 1, self._opening - 1

    @contextlib.contextmanager
    def _others_opened(self) -> Iterator[None]:
        """All that are missing are opened beside the block, whose end waits for them."""
        missing = self.lanes - self.opened - self._opening
        threads = [threading.Thread(target=self._opened_ahead, name="session") for _ in range(missing)]
        for each in threads:
            each.start()
        try:
            yield
        finally:
            for each in threads:
                each.join()

    def limit(self, lanes: int) -> None:
        """Let go of all but so many, while none computes; there will be no more."""
        with self._changed:
            self.lanes, self.failed = min(self.lanes, lanes), False
            self._free.sort(key=lambda session: session is not None)
            del self._free[lanes:]
            self.opened = len(self._free)

    def _taken(self) -> Runtime | None:
        with self._changed:
            while not self._free:
                if self._may_open():
                    break
                self._changed.wait()
            else:
                return self._chosen()
            self._opening += 1
        return self._new() or self._taken()

    def _chosen(self) -> Runtime | None:
        """The free session that this thread had last, whose memory its core may have in its cache, or any."""
        had = getattr(self._had, "id", None)
        return self._free.pop(next((at for at, each in enumerate(self._free) if id(each) == had), -1))

    def _opened_ahead(self) -> None:
        """What is wrong with the model is for the batch to say that needs it."""
        with self._changed:
            if not self._may_open():
                return
            self._opening += 1
        with contextlib.suppress(Exception):
            session = self._new()
            if session is not None:
                with self._changed:
                    self._free.append(session)

    def _may_open(self) -> bool:
        """Each that is being opened needs its memory yet."""
        begun = self.opened + self._opening
        if begun >= self.lanes:
            return False
        if self._left() < (self._opening + 1) * self._size_bytes + SPARE_BYTES:
            self.lanes = begun
            return False
        return True

    def _new(self) -> Runtime | None:
        """A session more; None where there is no memory for it."""
        session = None
        try:
            session = self._another() if self._another is not None else None
        except (OutOfMemory, MemoryError):
            pass
        finally:
            with self._changed:
                self._opening -= 1
                if session is None:
                    self.lanes = self.opened + self._opening
                else:
                    self.opened += 1
                self._changed.notify_all()
        return session


@dataclass(frozen=True)
class Given(Generic[ItemT, ResultT]):
    """An item that a thread was given already, and what comes of it; if cancelled, it is left to do."""

    item: ItemT
    result: Future[ResultT]


def in_lanes(
    lanes: int, work: Callable[[ItemT], ResultT], items: Iterable[ItemT | Given[ItemT, ResultT]]
) -> Generator[tuple[ItemT, ResultT]]:
    """Each item with what `work` makes of it, in order; so many at a time, each in a thread.

    As many items again wait, so that no lane does for an earlier one. An error is raised where its result
    would be, and what is in work ends before; so it does when the iterator is closed. One lane has no thread.
    Those that are `Given` have theirs already.
    """
    if lanes == 1:
        for item in items:
            yield _done(item, work) if isinstance(item, Given) else (item, work(item))
        return
    begun: deque[Given[ItemT, ResultT]] = deque()
    with ThreadPoolExecutor(lanes, "lane") as threads:
        try:
            for item in items:
                each = item if isinstance(item, Given) else Given(item, threads.submit(work, item))
                begun.append(each)
                while begun and (len(begun) > 2 * lanes or begun[0].result.done()):
                    yield _done(begun.popleft(), work)
            while begun:
                yield _done(begun.popleft(), work)
        finally:
            left = [each.result for each in begun]
            for result in left:
                result.cancel()
            wait(left)


def _done(begun: Given[ItemT, ResultT], work: Callable[[ItemT], ResultT]) -> tuple[ItemT, ResultT]:
    with contextlib.suppress(CancelledError):
        return begun.item, begun.result.result()
    return begun.item, work(begun.item)
