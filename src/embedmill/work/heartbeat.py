"""What a worker tells while it works: its lease is alive, how far it is; and what tells it to stop."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

from embedmill.errors import ObjectMissing, StoreError, Yielded
from embedmill.spec.loops import BEAT_S
from embedmill.store.cache import in_parallel
from embedmill.store.pace import POLITE_LOOK_S
from embedmill.work.leases import HeldLease
from embedmill.work.watchdog import HANG_S, end_now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import FrameType, TracebackType

    from embedmill.release.layout import Home

TICK_S = 0.5
"""How often it looks for the parent, and tells how far it is; a remote store is told less often."""
RELEASE_S = 0.5
"""What a store has to take leases back, all beside each other, before a process that hangs is ended."""


class Heartbeat:
    """A thread that beats all held leases and writes `events/<worker>.json`: how far the loop is, and counts.

    SIGTERM, the parent's end, and what `reasons` say set a flag that stops work between two batches. Without
    a thread of its own it beats between two batches only: a simulation has one thread at a time.
    """

    def __init__(
        self,
        home: Home,
        run: str,
        worker: str,
        parent: int | None,
        *,
        beat_s: float = BEAT_S,
        threaded: bool = True,
        reasons: Sequence[Callable[[], str]] = (),
        urgent: bool = False,
        where: Mapping[str, str] | None = None,
        listener: Callable[[bytes], None] | None = None,
        stages: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        """Prepare; entering starts the thread and takes SIGTERM.

        `reasons` are asked every half second, and say why to stop, or nothing. `urgent`: the process is ended
        if work does not stop in HANG_S. `where` the worker is, for people, is told with the rest. `listener`
        gets what is told, as one line, and more often than a remote store does. `stages` says how busy they
        are, and is told with the rest.
        """
        self._listener, self._heard, self._stages = listener, b"", stages
        self._reasons, self._urgent, self._where = reasons, urgent, dict(where or {})
        self._reason, self._asked_s = "", 0.0
        self._threaded = threaded
        self._last_beat = home.world.monotonic()
        self._home, self._worker, self._parent, self._beat_s = home, worker, parent, beat_s
        self._key = home.run_key(run, "events", f"{worker}.json")
        self._lease: HeldLease | None = None
        self._held: tuple[HeldLease, ...] = ()
        self._unwritten: dict[str, int] = {}
        self._gives_up = self._failed = False
        self._changes = threading.RLock()
        self._stop = threading.Event()
        self._wanted_back = threading.Event()
        self._counts: dict[str, int] | None = None
        self._attempts = self._yields = 0
        self._smaller: Mapping[str, int] = {}
        self._rows_done = self._shard_done = self._shard_rows = 0
        self._tell_s = POLITE_LOOK_S if home.store.remote else 0.0
        self._told, self._told_s = b"", home.world.monotonic() - self._tell_s
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._previous: object = None

    def __enter__(self) -> Heartbeat:
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGTERM, self._on_signal)
        if self._threaded:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._yields += isinstance(error, Yielded)
        self._stop.set()
        if self._threaded:
            self._thread.join()
        if not isinstance(error, StoreError):
            self._pulse(last=True)
        if callable(self._previous) or isinstance(self._previous, signal.Handlers):
            signal.signal(signal.SIGTERM, self._previous)

    def check(self) -> None:
        """Stop here if somebody wants the device back, the leases were given up, or a shard was not written.

        Raises:
            Yielded: One of these.
        """
        if self._wanted_back.is_set() or self._gives_up or self._failed:
            raise Yielded(self._words, hint="`embedmill resume` goes on")

    def fail(self) -> None:
        """Let work stop at the next check: another thread has an error, which is raised instead."""
        self._failed = True

    def look(self) -> None:
        """While something is waited for: if work is to stop, others get at once what is not computed."""
        if self._wanted_back.is_set() and not self._gives_up:
            self.give_up()

    @property
    def _words(self) -> str:
        return f"worker {self._worker} was asked to stop{f': {self._reason}' if self._reason else ''}"

    def advance(self, rows: int) -> None:
        """Rows were embedded; the place where work can stop between two batches."""
        self._rows_done += rows
        self._shard_done += rows
        if not self._threaded:
            self._pulse()
        self.check()

    def hold(self, lease: HeldLease) -> None:
        """Keep this lease alive, among others, until it is dropped or given up.

        Raises:
            Yielded: The leases were given up meanwhile; so is this one.
        """
        with self._changes:
            self._held = (*self._held, lease)
        if self._gives_up:
            self.drop(lease)
            lease.release()
            raise Yielded(self._words)

    def take(self, lease: HeldLease, rows: int) -> None:
        """The shard of this lease, of so many rows, is the one in hand from now on."""
        self._shard_done, self._shard_rows = 0, rows
        self._attempts += 1
        self._lease = lease

    def again(self, smaller: Mapping[str, int]) -> None:
        """The shard in hand is begun anew, with batches as small as this; what was done of it is lost."""
        self._rows_done -= self._shard_done
        self._shard_done, self._smaller = 0, smaller

    def leave(self, lease: HeldLease) -> None:
        """The shard in hand is computed, and waits to be written."""
        with self._changes:
            self._unwritten = {**self._unwritten, lease.lease.shard: self._shard_done}
        self._lease = None

    def drop(self, lease: HeldLease) -> None:
        """Keep it alive no longer: its shard is committed."""
        shard = lease.lease.shard
        with self._changes:
            self._held = tuple(held for held in self._held if held is not lease)
            self._unwritten = {name: rows for name, rows in self._unwritten.items() if name != shard}

    def give_up(self, *, all_of_them: bool = False) -> None:
        """Leave shards to others at once, except those that only have to be written, unless all are meant."""
        with self._changes:
            self._gives_up = True
            given = [lease for lease in self._held if all_of_them or lease.lease.shard not in self._unwritten]
            for lease in given:
                self.drop(lease)
        in_parallel(self._home.store, _release, given)
        self._lease = None

    @contextlib.contextmanager
    def giving_up(self) -> Iterator[None]:
        """If the block fails, leave to others what is not computed yet, before anything is waited for."""
        try:
            yield
        except BaseException:
            self.give_up()
            raise

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signal API
        self._ask_to_stop("")

    def _ask_to_stop(self, reason: str) -> None:
        if not self._wanted_back.is_set():
            self._reason, self._asked_s = reason, time.monotonic()
            self._wanted_back.set()

    def _run(self) -> None:
        while not self._stop.wait(TICK_S):
            if self._parent is not None and os.getppid() != self._parent:
                self._ask_to_stop("")
            reason = next(filter(None, (ask() for ask in self._reasons)), "")
            if reason:
                self._ask_to_stop(reason)
            if self._urgent and self._wanted_back.is_set() and time.monotonic() - self._asked_s >= HANG_S:
                self._end()
            self._pulse()

    def _end(self) -> None:
        """The loop hangs, and somebody waits: leave the shards to others, and the device to them."""
        if self._held:
            giving = threading.Thread(target=self.give_up, kwargs={"all_of_them": True}, daemon=True)
            giving.start()
            giving.join(RELEASE_S)
        end_now(self._words)

    def _pulse(self, *, last: bool = False) -> None:
        """Tell how far the work is; keep the leases alive where it is time."""
        held, monotonic = self._held, self._home.world.monotonic
        with contextlib.suppress(StoreError):  # telling is not worth failing for; work itself will see
            self._tell(self._lease, last=last)
            if held and monotonic() - self._last_beat >= self._beat_s:
                for lease in held:
                    lease.beat()
                self._last_beat = monotonic()

    def _tell(self, lease: HeldLease | None, *, last: bool) -> None:
        state = {
            "schema": "event/1",
            "worker": self._worker,
            "shard": lease.lease.shard if lease else None,
            "shard_done": self._shard_done,
            "shard_rows": self._shard_rows,
            "rows_done": self._rows_done,
            "unwritten": self._unwritten,
            **({"smaller": dict(self._smaller)} if self._smaller else {}),
            **self._stages(),
            **self._counted(),
            **self._where,
        }
        news, now_s = (json.dumps(state, sort_keys=True) + "\n").encode(), self._home.world.monotonic()
        if self._listener is not None and news != self._heard:
            self._listener(news)
            self._heard = news
        if news != self._told and (last or now_s - self._told_s >= self._tell_s):
            self._told_s = now_s
            self._home.store.put(self._key, news)
            self._told = news

    def _counted(self) -> dict[str, int]:
        """Starts, attempts at shards and yields of all loops that had this name, this one too."""
        if self._counts is None:
            self._counts = self._counts_before()
        mine = {"starts": 1, "attempts": self._attempts, "yields": self._yields}
        return {name: self._counts.get(name, 0) + count for name, count in mine.items()}

    def _counts_before(self) -> dict[str, int]:
        try:
            told = json.loads(self._home.store.get(self._key))
        except (ObjectMissing, ValueError):
            return {}
        return {name: told[name] for name in ("starts", "attempts", "yields") if name in told}


def _release(lease: HeldLease) -> None:
    """Give it back if the store answers; else others wait until it expires, and the rest is given back."""
    with contextlib.suppress(StoreError):
        lease.release()
