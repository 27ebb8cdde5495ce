"""Arrays of batches are made ahead by a thread: those of the next shard once this one has all of its own."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from embedmill.model.lanes import MOST_LANES, Begun
from embedmill.work.stages import Ahead, StageTimes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future
    from types import TracebackType

    from embedmill.model.encoder import Computed
    from embedmill.model.feeds import Fed

    Feeds: TypeAlias = Iterator[Fed | Begun[Fed, Computed]]


class Following(NamedTuple):
    """The arrays of the next shard; `compute` does one batch, `lanes` of them are worth beginning early."""

    feeds: Iterator[Fed]
    lanes: int
    compute: Callable[[Fed], Computed]


class Feeder:
    """Makes what feeds batches, shard after shard; one thread at a time does.

    Where lanes compute the last batches of a shard, some have nothing to do, and so have decoders. So what
    follows is begun by whichever thread comes last: the one that made a shard's arrays, or the one that made
    the next shard ready; and its first batches are computed by lanes that are free. Inside a `with` block,
    which ends what was begun too early.
    """

    def __init__(self, times: StageTimes, *, threaded: bool) -> None:
        """Not `threaded`, each batch's arrays are made when their turn comes."""
        self._times, self._threaded = times, threaded
        self._changing = threading.Lock()
        self._making: object = None
        self._made_all = False
        self._following: Callable[[], Following] | None = None
        self._early: Ahead[Fed | Begun[Fed, Computed]] | None = None
        self._lanes = ThreadPoolExecutor(MOST_LANES, "early")
        self._computed: list[Future[Computed]] = []

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
        """Those of a shard, two ahead and as many as wait for lanes; what was begun early is gone on with."""
        if not self._threaded:
            yield self._times.waiting("runtime", self._times.each("batch", feeds))
            return
        with self._changing:
            early, self._early = self._early, None
            if early is None:
                self._following = None  # it is this shard, or was not begun in time
                early = self._begun(feeds)
        with early as made:
            yield self._times.waiting("runtime", made)

    def _drop(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changing:
            early, self._early = self._early, None
            self._making, self._made_all, self._following = None, False, None
        if early is not None:
            early.__exit__(kind, error, trace)
        computed, self._computed = self._computed, []
        for each in computed:
            each.cancel()
        wait(computed)

    def _begun(
        self, feeds: Iterator[Fed], first: Following | None = None
    ) -> Ahead[Fed | Begun[Fed, Computed]]:
        self._making, self._made_all = making, _ = object(), False
        return Ahead(self._noted(feeds, making, first), depth=1, name="batch")

    def _noted(self, feeds: Iterator[Fed], making: object, first: Following | None) -> Feeds:
        made = self._times.each("batch", feeds)
        if first is not None:
            for fed in islice(made, first.lanes):
                computed = self._lanes.submit(first.compute, fed)
                self._computed = [*(each for each in self._computed if not each.done()), computed]
                yield Begun(fed, computed)
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
