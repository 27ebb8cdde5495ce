"""Arrays of batches are made ahead by a thread: those of the next shard once this one has all of its own."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from embedmill.work.stages import Ahead, StageTimes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from embedmill.model.feeds import Fed


class Feeder:
    """Makes what feeds batches, shard after shard; one thread at a time does.

    Where lanes compute the last batches of a shard, some have nothing to do, and so have decoders. Inside a
    `with` block, which ends what was begun too early.
    """

    def __init__(self, times: StageTimes, *, threaded: bool) -> None:
        """Not `threaded`, each batch's arrays are made when their turn comes."""
        self._times, self._threaded = times, threaded
        self._early: Ahead[Fed] | None = None
        self._made_all = False

    def __enter__(self) -> Feeder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        early, self._early = self._early, None
        if early is not None:
            early.__exit__(kind, error, trace)

    @property
    def idle(self) -> bool:
        """Whether all arrays of the shard in hand are made, and none of the next."""
        return self._made_all and self._early is None

    def begin(self, feeds: Iterator[Fed]) -> None:
        """Make those of the next shard, which `feeding` is called for next; to be called when `idle`."""
        self._early = self._begun(feeds)

    def forget(self) -> None:
        """What was begun for the next shard is not wanted."""
        self.__exit__(None, None, None)

    @contextlib.contextmanager
    def feeding(self, feeds: Iterator[Fed]) -> Iterator[Iterator[Fed]]:
        """Those of a shard, two ahead and as many as wait for lanes; what was begun early is gone on with."""
        if not self._threaded:
            yield self._times.waiting("runtime", self._times.each("batch", feeds))
            return
        early, self._early = self._early, None
        with early or self._begun(feeds) as made:
            yield self._times.waiting("runtime", made)

    def _begun(self, feeds: Iterator[Fed]) -> Ahead[Fed]:
        self._made_all = False
        return Ahead(self._noted(feeds), depth=1, name="batch")

    def _noted(self, feeds: Iterator[Fed]) -> Iterator[Fed]:
        yield from self._times.each("batch", feeds)
        self._made_all = True
