"""A store that fails as real ones do, on demand: for tests of Embedmill and of what is built on it.

    clock = VirtualClock()
    faults = SeededFaults(7, {Refused(): 0.1, AnswerLost(): 0.05, Late(2): 0.05})
    store = RetryingStore(FaultyStore(MemoryStore(), faults), sleep=clock.sleep, clock=clock.now)

A process is simulated by a `FaultyStore` of its own: once it has crashed, all of its calls do. Give the
stores of several processes one `InFlight`, so that what a dead one had sent may still arrive.
"""

from __future__ import annotations

import itertools
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, NoReturn, TypeVar

from embedmill.errors import StoreError, StoreFull, StoreUnavailable
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
    checked_key,
    read_body,
)
from embedmill.store.faults import (
    AnswerLost,
    Call,
    Crash,
    Fault,
    Faults,
    Full,
    Late,
    NoFaults,
    Refused,
    Slow,
    Verb,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

T = TypeVar("T")
WHOLE = {"list", "folders", "sweep_unfinished"}
"""What may be done to the whole store, without a key."""


class Crashed(BaseException):
    """The end of a simulated process; no `except Exception` stops it."""


class VirtualClock:
    """Time that passes only by sleeping, so that tests need not wait. Threads may share it."""

    def __init__(self) -> None:
        """Start at 0 s."""
        self._lock = threading.Lock()
        self._now_s = 0.0

    def now(self) -> float:
        """Seconds since the start."""
        return self._now_s

    def sleep(self, seconds: float) -> None:
        """Let time pass; threads that fall asleep together sleep side by side."""
        wakes_s = self._now_s + seconds
        time.sleep(0)  # lets others fall asleep
        with self._lock:
            self._now_s = max(self._now_s, wakes_s)


class InFlight:
    """Writes that were sent and have not arrived yet."""

    def __init__(self) -> None:
        """Begin with none."""
        self._lock = threading.RLock()
        self._calls = 0
        self._sent: list[tuple[int, Callable[[], object]]] = []

    def send(self, write: Callable[[], object], calls: int) -> None:
        """Let a write arrive before the so-manieth call from now."""
        with self._lock:
            self._sent.append((self._calls + calls, write))

    def count_call(self) -> None:
        """Count a call, and do what arrives before it."""
        with self._lock:
            self._calls += 1
            self._arrive(self._calls)

    def arrive(self) -> None:
        """Let everything arrive now."""
        with self._lock:
            self._arrive(None)

    def _arrive(self, until: int | None) -> None:
        due = [write for when, write in self._sent if until is None or when <= until]
        self._sent = [(when, write) for when, write in self._sent if until is not None and when > until]
        for write in due:
            try:
                write()
            except StoreError:  # its condition does not hold any more, and nobody waits for the answer
                continue


class FaultyStore(Store):
    """Another store, and what happens to its calls. It has the optional powers that `inner` has.

    `trace` has every call with what was decided, so that two runs of one seed can be compared.
    """

    def __init__(
        self,
        inner: Store,
        faults: Faults | None = None,
        *,
        in_flight: InFlight | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """Wrap `inner`."""
        self.inner = inner
        self.url = inner.url
        self.transfers = inner.transfers
        self.remote = inner.remote
        self.faults = faults or NoFaults()
        self.in_flight = in_flight or InFlight()
        self.trace: list[tuple[Call, Fault | None]] = []
        self._sleep = sleep
        self._numbers = itertools.count(1)
        self._dead = False
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

    def get(self, key: str) -> bytes:
        """Bytes of the object."""
        return self._do("get", key, lambda: self.inner.get(key))

    def head(self, key: str) -> ObjectInfo:
        """Size and ETag of the object."""
        return self._do("head", key, lambda: self.inner.head(key))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Objects below `prefix`; the call is made when the first one is asked for."""
        found: list[ObjectInfo] = []
        try:
            self._do("list", prefix, lambda: found.extend(self.inner.list(prefix)))
        except StoreUnavailable:
            yield from found[: len(found) // 2]
            raise
        yield from found

    def put(self, key: str, body: Body, *, if_match: str | None = None) -> str:
        """Create or replace the object."""

        def write(sent: Body) -> str:
            return self.inner.put(key, sent, if_match=if_match)

        return self._do("put", key, lambda: write(body), lambda: partial(write, read_body(body)))

    def put_if_absent(self, key: str, body: Body) -> str:
        """Create the object."""

        def write(sent: Body) -> str:
            return self.inner.put_if_absent(key, sent)

        return self._do("put_if_absent", key, lambda: write(body), lambda: partial(write, read_body(body)))

    def delete(self, key: str) -> None:
        """Remove the object."""
        delete = partial(self.inner.delete, key)
        self._do("delete", key, delete, lambda: delete)

    def _copier(self, inner: Copies) -> Callable[[str, str], None]:
        def copy_if_absent(source: str, target: str) -> None:
            """Copy an object."""
            copy = partial(inner.copy_if_absent, source, target)
            self._do("copy_if_absent", target, copy, lambda: copy)

        return copy_if_absent

    def _adopter(self, inner: Adopts) -> Callable[[str, Path], str]:
        def adopt_if_absent(key: str, file: Path) -> str:
            """Create the object of a file."""

            def later() -> Callable[[], str]:
                return partial(self.inner.put_if_absent, key, read_body(file))

            return self._do("adopt_if_absent", key, lambda: inner.adopt_if_absent(key, file), later)

        return adopt_if_absent

    def _pather(self, inner: LocalPaths) -> Callable[[str], Path]:
        def path(key: str) -> Path:
            """Where the object's bytes lie."""
            return self._do("path", key, lambda: inner.path(key))

        return path

    def _downloader(self, inner: Downloads) -> Callable[[str, Path], ObjectInfo]:
        def download(key: str, file: Path) -> ObjectInfo:
            """Write the object to a new file; it is there, too, where the answer is lost."""
            return self._do("download", key, lambda: inner.download(key, file))

        return download

    def _ranger(self, inner: Ranges) -> Callable[[str, int, int], bytes]:
        def get_range(key: str, start: int, stop: int) -> bytes:
            """Bytes of a part of the object."""
            return self._do("get_range", key, lambda: inner.get_range(key, start, stop))

        return get_range

    def _namer(self, inner: Folders) -> Callable[[str], Sequence[str]]:
        def folders(prefix: str) -> Sequence[str]:
            """Names of the folders directly in `prefix`."""
            return self._do("folders", prefix, lambda: inner.folders(prefix))

        return folders

    def _sweeper(self, inner: Unfinished) -> Callable[..., Leftovers]:
        def sweep_unfinished(older_than_s: float, *, dry_run: bool = False) -> Leftovers:
            """Remove what nobody finished."""
            return self._do(
                "sweep_unfinished", "", lambda: inner.sweep_unfinished(older_than_s, dry_run=dry_run)
            )

        return sweep_unfinished

    def _do(
        self,
        verb: Verb,
        key: str,
        operation: Callable[[], T],
        sent: Callable[[], Callable[[], object]] | None = None,
    ) -> T:
        """Make a call; `sent` gives a write that can be done later, when a body's file may be gone."""
        self._check_alive()
        if key or verb not in WHOLE:
            checked_key(key)
        call = Call(verb, key, next(self._numbers))
        fault = self.faults.before(call)
        try:
            self._check_alive()
            self.trace.append((call, fault))
            self.in_flight.count_call()
            return self._met(fault, call, operation, sent)
        finally:
            self.faults.after(call)

    def _met(
        self,
        fault: Fault | None,
        call: Call,
        operation: Callable[[], T],
        sent: Callable[[], Callable[[], object]] | None,
    ) -> T:
        match fault:
            case Refused(reason):
                raise StoreUnavailable(f"{call.key}: {reason}")
            case Late(calls):
                if sent is not None:
                    self.in_flight.send(sent(), calls)
                raise StoreUnavailable(f"{call.key}: timed out")
            case Full() if sent is not None:
                raise StoreFull(f"{call.key}: no space left")
            case Slow(seconds):
                self._sleep(seconds)
            case Crash("before"):
                self._die(call)
        try:
            answer = operation()
        except StoreError as error:
            if isinstance(fault, AnswerLost):
                raise StoreUnavailable(f"{call.key}: {fault.reason}") from error
            raise
        finally:
            if isinstance(fault, Crash):
                self._die(call)
        if isinstance(fault, AnswerLost):
            raise StoreUnavailable(f"{call.key}: {fault.reason}")
        return answer

    def _die(self, call: Call) -> NoReturn:
        self._dead = True
        raise Crashed(f"at call {call.number}: {call.verb} {call.key}")

    def _check_alive(self) -> None:
        if self._dead:
            raise Crashed("this process has crashed")
