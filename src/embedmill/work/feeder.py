"""Arrays of batches are made ahead by a thread: those of the next shard once this one has all of its own."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from embedmill.model.lanes import Given
from embedmill.work.stages import Ahead, StageTimes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future
    from types import TracebackType

    from embedmill.model.encoder import Computed
    from embedmill.model.feeds import Fed

    Feeds: TypeAlias = Iterator[Fed | Given[Fed, Computed]]

EARLY = 2
"""Batches of a next shard that are begun early, however many lanes there are: the arrays of one wait in the
queue, and those of one more wait for room in it."""


class Following(NamedTuple):
    """The arrays of the next shard; `compute` does one of its first two batches early, None: none is.

    It is told by what to see, once it may begin, whether the batch is still wanted.
    """

    feeds: Iterator[Fed]
    compute: Callable[[Fed, Callable[[], bool]], Computed] | None = None


class Feeder:
    """Makes what feeds batches, shard after shard; one thread at a time does.

    Where lanes compute the last batches of a shard, some have nothing to do, and so have decoders. So what
    follows is begun by whichever thread comes last: the one that made a shard's arrays, or the one that made
    the next shard ready; and its first two batches are computed by lanes that are free. Inside a `with`
    block, which ends what was begun too early.
    """

    def __init__(self, times: StageTimes, *, threaded: bool) -> None:
        """Not `threaded`, each batch's arrays are made when their turn comes."""
        self._times, self._threaded = times, threaded
        self._changing = threading.Lock()
        self._making: object = None
        self._made_all = False
        self._following: Callable[[], Following] | None = None
        self._early: Ahead[Fed | Given[Fed, Computed]] | None = None
        self._lanes = ThreadPoolExecutor(2 * EARLY, "early")  # of a shard in hand and of the next one
        self._computed: list[Future[Computed]] = []
        self._dropped = 0

    def __enter__(self) -> Feeder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._drop(kind, error, trace)
        self._lanes.shutdown()

    def follow(self, following: Callable[[], Following]) -> None:
        """The next shard is ready: its arrays are made as soon as this one has all of its own.

        `following` is called then, by whichever thread; it is the shard of the next call of `feeding`.
        """
        if self._threaded:
            with self._changing:
                self._following = following
                self._follow()

    def forget(self) -> None:
        """What follows is not wanted: nothing is begun before `feeding` is called again."""
        self._drop(None, None, None)

    @contextlib.contextmanager
    def feeding(self, feeds: Iterator[Fed]) -> Iterator[Feeds]:
        """Those of a shard, two ahead and as many as wait for lanes; what was begun early is gone on with.

        Where an error leaves the block, no early batch begins any more.
        """
        if not self._threaded:
            yield self._times.waiting("runtime", self._times.each("batch", feeds))
            return
        with self._changing:
            early, self._early = self._early, None
            if early is None:
                self._following = None  # it is this shard, or was not begun in time
                early = self._begun(feeds)
            self._follow()  # its arrays may all be made, and the shard after it ready
        with early as made:
            try:
                yield self._times.waiting("runtime", made)
            except BaseException:
                self._dropped += 1
                raise

    def _drop(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changing:
            early, self._early = self._early, None
            self._making, self._made_all, self._following = None, False, None
            self._dropped += 1  # before it is waited for: nothing more begins
        if early is not None:
            early.__exit__(kind, error, trace)
        computed, self._computed = self._computed, []
        for each in computed:
            each.cancel()
        wait(computed)

    def _begun(
        self, feeds: Iterator[Fed], first: Following | None = None
    ) -> Ahead[Fed | Given[Fed, Computed]]:
        making = object()
        self._making = making
        self._made_all = False
        compute = None if first is None or first.compute is None else self._while_wanted(first.compute)
        return Ahead(self._noted(feeds, making, compute), depth=1, name="batch")

    def _while_wanted(
        self, compute: Callable[[Fed, Callable[[], bool]], Computed]
    ) -> Callable[[Fed], Computed]:
        """A batch waits for its session in its thread, where it cannot be cancelled; so it is asked then."""
        dropped = self._dropped
        return lambda fed: compute(fed, lambda: self._dropped == dropped)

    def _noted(
        self, feeds: Iterator[Fed], making: object, compute: Callable[[Fed], Computed] | None
    ) -> Feeds:
        made = self._times.each("batch", feeds)
        if compute is not None:
            for fed in islice(made, EARLY):
                computed = self._lanes.submit(compute, fed)
                self._computed = [*(each for each in self._computed if not each.done()), computed]
                yield Given(fed, computed)
                del fed, computed  # megabytes, where a batch has images
        yield from made
        with self._changing:
            if self._making is making:
                self._made_all = True
                self._follow()

    def _follow(self) -> None:
        """Begin what follows, if it is time."""
        if self._made_all and self._early is None and self._following is not None:
            following, self._following = self._following(), None
            self._early = self._begun(following.feeds, following)
