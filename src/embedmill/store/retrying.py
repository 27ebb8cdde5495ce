"""A store that repeats what got no answer, and finds out what became of writes.

A write without an answer may have landed, may land later, or never. So a create-if-absent is settled by
what lies under the key: our bytes mean that we won, another's that we lost, nothing that we send the same
again. It is never taken for failed, and nothing is ever deleted on a guess.

Callers with identical bytes count as one caller: all of them win. What decides between two, such as a log
entry or a commit record, therefore carries something of its caller's own: a name, a random token.

What a client cannot settle: a plain `put` or `delete` that is delayed beyond the retry's answer may undo
what was written since. Objects that count are created, not put.
"""

from __future__ import annotations

import random as chance
import time
from typing import TYPE_CHECKING, TypeVar

from embedmill.errors import (
    ObjectExists,
    ObjectMissing,
    OutcomeUnknown,
    PreconditionFailed,
    StoreError,
    StoreUnavailable,
)
from embedmill.store.base import (
    Adopts,
    Body,
    Copies,
    Downloads,
    Folders,
    Leftovers,
    LocalPaths,
    ObjectInfo,
    Ranges,
    Store,
    Unfinished,
)
from embedmill.store.budget import RetryBudget, RetryPolicy
from embedmill.store.patience import Patience, pause
from embedmill.store.sameness import etag_if_same, same_objects

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

T = TypeVar("T")
POLICY = RetryPolicy()


class RetryingStore(Store):
    """Another store, patient: `StoreUnavailable` reaches callers only after a deadline.

    It has the optional powers that `inner` has, and no others. Threads may share it. Waits of some seconds
    are told as warnings of the logger `embedmill.store`.
    """

    def __init__(
        self,
        inner: Store,
        policy: RetryPolicy = POLICY,
        *,
        known: bool = False,
        sleep: Callable[[float], object] = pause,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = chance.random,
    ) -> None:
        """Wrap `inner`, each call of which should be one attempt.

        `known`: something answered at this address before, so that an outage is likelier than a wrong
        address. `random` gives numbers from 0 to 1.
        """
        self.inner = inner
        self.url = inner.url
        self.transfers = inner.transfers
        self.remote = inner.remote
        self.policy = policy
        self.sleep = sleep
        self.clock = clock
        self.random = random
        self.budget = RetryBudget(policy, clock)
        self.patience = Patience(inner.url, policy, clock, known=known)
        # As attributes, so that isinstance(store, Copies) tells the truth.
        if isinstance(inner, Copies):
            self.copy_if_absent = self._copier(inner)
        if isinstance(inner, Adopts):
            self.adopt_if_absent = self._adopter(inner)
        if isinstance(inner, LocalPaths):
            self.path = self._pather(inner)
        if isinstance(inner, Downloads):
            self.download = self._downloader(inner)
        if isinstance(inner, Ranges):
            self.get_range = self._ranger(inner)
        if isinstance(inner, Folders):
            self.folders = self._namer(inner)
        if isinstance(inner, Unfinished):
            self.sweep_unfinished = self._sweeper(inner)

    def __repr__(self) -> str:
        return f"RetryingStore({self.inner!r})"

    def get(self, key: str) -> bytes:
        """Bytes of the object."""
        return self._repeat(key, lambda: self.inner.get(key))

    def head(self, key: str) -> ObjectInfo:
        """Size and ETag of the object."""
        return self._repeat(key, lambda: self.inner.head(key))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Objects below `prefix`, each once: after a failure it starts anew behind the last one."""
        last = behind = ""
        tries = _Tries(self, prefix)
        while True:
            try:
                for info in self.inner.list(prefix):
                    if info.key > behind:
                        last = info.key
                        tries = _Tries(self, prefix)
                        yield info
            except StoreUnavailable as error:
                tries.wait(error)
                behind = last
            else:
                self._note_answer()
                return

    def put(self, key: str, body: Body, *, if_match: str | None = None) -> str:
        """Create or replace the object.

        Under `if_match` a retry may meet what an earlier try wrote: our bytes mean success.
        """
        if if_match is None:
            return self._repeat(key, lambda: self.inner.put(key, body))
        unsettled = False

        def replace() -> str:
            nonlocal unsettled
            try:
                return self.inner.put(key, body, if_match=if_match)
            except StoreUnavailable:
                unsettled = True
                raise
            except PreconditionFailed:
                etag = self._etag_if_ours(key, body) if unsettled else None
                if etag is None:
                    raise
                return etag

        return self._repeat(key, replace)

    def put_if_absent(self, key: str, body: Body) -> str:
        """Create the object; returns its ETag if the object is ours, whichever try created it.

        A file must not change meanwhile.

        Raises:
            ObjectExists: The key has other bytes than ours.
            OutcomeUnknown: There was no answer until the deadline; the object may be there, or yet come.
        """
        return self._create(key, body, lambda: self.inner.put_if_absent(key, body))

    def delete(self, key: str) -> None:
        """Remove the object."""
        self._repeat(key, lambda: self.inner.delete(key))

    def _create(self, key: str, body: Body, attempt: Callable[[], str]) -> str:
        """The ETag of an object that an attempt creates of this body."""
        unsettled = False

        def create() -> str:
            nonlocal unsettled
            etag = self._settled(key, body) if unsettled else None
            if etag is not None:
                return etag
            try:
                return attempt()
            except ObjectExists:
                etag = self._settled(key, body)
                if etag is not None:
                    return etag
                if not unsettled:  # taken by another, and deleted since
                    raise
                raise StoreUnavailable(f"{key}: was there and is gone") from None
            except StoreUnavailable:
                unsettled = True
                raise

        return self._repeat(key, create, gives_up_with=OutcomeUnknown)

    def _settled(self, key: str, body: Body) -> str | None:
        """The ETag of what is there if it is ours; None if nothing is."""
        try:
            etag = etag_if_same(self.inner, key, body)
        except ObjectMissing:
            return None
        if etag is None:
            raise ObjectExists(f"{key}: exists already")
        return etag

    def _etag_if_ours(self, key: str, body: Body) -> str | None:
        try:
            return etag_if_same(self.inner, key, body)
        except ObjectMissing:
            return None

    def _copier(self, inner: Copies) -> Callable[[str, str], None]:
        def copy_if_absent(source: str, target: str) -> None:
            """Copy an object; a target that an earlier try made is no error."""
            unsettled = False

            def copy() -> None:
                nonlocal unsettled
                try:
                    inner.copy_if_absent(source, target)
                except StoreUnavailable:
                    unsettled = True
                    raise
                except ObjectExists:
                    if not (unsettled and self._same(source, target)):
                        raise

            self._repeat(target, copy, gives_up_with=OutcomeUnknown)

        return copy_if_absent

    def _same(self, source: str, target: str) -> bool:
        try:
            return same_objects(self.inner, source, target)
        except ObjectMissing:
            return False

    def _adopter(self, inner: Adopts) -> Callable[[str, Path], str]:
        def adopt_if_absent(key: str, file: Path) -> str:
            """Create the object of a file; settled as `put_if_absent` is."""
            return self._create(key, file, lambda: inner.adopt_if_absent(key, file))

        return adopt_if_absent

    def _pather(self, inner: LocalPaths) -> Callable[[str], Path]:
        def path(key: str) -> Path:
            """Where the object's bytes lie."""
            return self._repeat(key, lambda: inner.path(key))

        return path

    def _downloader(self, inner: Downloads) -> Callable[[str, Path], ObjectInfo]:
        def download(key: str, file: Path) -> ObjectInfo:
            """Write the object to a new file."""
            there_before = file.exists()

            def attempt() -> ObjectInfo:
                try:
                    return inner.download(key, file)
                except StoreUnavailable:
                    if not there_before:
                        file.unlink(missing_ok=True)
                    raise

            return self._repeat(key, attempt)

        return download

    def _ranger(self, inner: Ranges) -> Callable[[str, int, int], bytes]:
        def get_range(key: str, start: int, stop: int) -> bytes:
            """Bytes of a part of the object."""
            return self._repeat(key, lambda: inner.get_range(key, start, stop))

        return get_range

    def _namer(self, inner: Folders) -> Callable[[str], Sequence[str]]:
        def folders(prefix: str) -> Sequence[str]:
            """Names of the folders directly in `prefix`."""
            return self._repeat(prefix, lambda: inner.folders(prefix))

        return folders

    def _sweeper(self, inner: Unfinished) -> Callable[..., Leftovers]:
        def sweep_unfinished(older_than_s: float, *, dry_run: bool = False) -> Leftovers:
            """Remove what nobody finished; told is what the last try found."""
            return self._repeat(
                "unfinished writes", lambda: inner.sweep_unfinished(older_than_s, dry_run=dry_run)
            )

        return sweep_unfinished

    def _repeat(
        self,
        key: str,
        operation: Callable[[], T],
        gives_up_with: type[StoreUnavailable] = StoreUnavailable,
    ) -> T:
        """Do it until there is an answer, be it an error."""
        tries = _Tries(self, key, gives_up_with)
        while True:
            try:
                answer = operation()
            except StoreUnavailable as error:
                tries.wait(error)
            except StoreError:
                self._note_answer()
                raise
            else:
                self._note_answer()
                return answer

    def _note_answer(self) -> None:
        self.budget.earn()
        self.patience.answered()


class _Tries:
    """The tries of one call."""

    def __init__(
        self, store: RetryingStore, key: str, gives_up_with: type[StoreUnavailable] = StoreUnavailable
    ) -> None:
        self._store = store
        self._key = key
        self._gives_up_with = gives_up_with
        self._made = 0
        self._started_s = store.clock()
        self._reached = False

    def wait(self, error: StoreUnavailable) -> None:
        """Wait for the next try.

        Raises:
            StoreUnavailable: The deadline has passed, or nobody waits for the answer any more.
        """
        store = self._store
        self._made += 1
        self._reached |= not error.unreachable
        limit_s = store.patience.limit_s(reached=self._reached)
        waited_s = store.clock() - self._started_s
        left_s = limit_s - waited_s
        if left_s <= 0:
            raise self._given_up(error, limit_s) from error
        jittered_s = store.random() * store.policy.longest_wait(self._made)
        wait_s = min(left_s, max(jittered_s, store.budget.reserve(left_s)))
        store.patience.tell(error.message.removeprefix(f"{self._key}: "), waited_s, wait_s, left_s)
        if store.sleep(wait_s) is True:
            raise self._given_up(error, round(store.clock() - self._started_s)) from error

    def _given_up(self, error: StoreUnavailable, limit_s: float) -> StoreUnavailable:
        last = error.message.removeprefix(f"{self._key}: ")
        tries = "1 try" if self._made == 1 else f"{self._made} tries"
        tried = f"{tries} in {limit_s:g} s, the last one: {last}"
        listed = f"{self._key}: " if self._key else ""  # a list of the whole store has no key
        silent = f"{listed}no answer from {self._store.url}; {tried}"
        if not self._reached:  # then nothing was sent, and nothing can have landed
            return StoreUnavailable(silent, hint=error.hint)
        if issubclass(self._gives_up_with, OutcomeUnknown):
            return self._gives_up_with(
                f"{self._key}: whether it was created is unknown; {tried}",
                hint="run again when the store answers: what landed is found",
            )
        return self._gives_up_with(silent, hint="run again when the store answers")
