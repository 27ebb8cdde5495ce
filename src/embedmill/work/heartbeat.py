"""What a worker tells while it works: its lease is alive, how far it is; and what tells it to stop."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from typing import TYPE_CHECKING

from embedmill.errors import ObjectMissing, StoreError, Yielded
from embedmill.store.pace import POLITE_LOOK_S
from embedmill.work.leases import BEAT_S, HeldLease
from embedmill.work.watchdog import HANG_S, end_now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import FrameType, TracebackType

    from embedmill.release.layout import Home

TICK_S = 0.5
"""How often it looks for the parent, and tells how far it is; a remote store is told less often."""
RELEASE_S = 0.5
"""What a store has to take a lease back before a process that hangs is ended."""


class Heartbeat:
    """A thread that beats the held lease and writes `events/<worker>.json`: how far the loop is, and counts.

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
    ) -> None:
        """Prepare; entering starts the thread and takes SIGTERM.

        `reasons` are asked every half second, and say why to stop, or nothing. `urgent`: the process is ended
        if work does not stop in HANG_S. `where` the worker is, for people, is told with the rest. `listener`
        gets what is told, as one line, and more often than a remote store does.
        """
        self._listener, self._heard = listener, b""
        self._reasons, self._urgent, self._where = reasons, urgent, dict(where or {})
        self._reason, self._asked_s = "", 0.0
        self._threaded = threaded
        self._last_beat = home.world.monotonic()
        self._home, self._worker, self._parent, self._beat_s = home, worker, parent, beat_s
        self._key = home.run_key(run, "events", f"{worker}.json")
        self._lease: HeldLease | None = None
        self._stop = threading.Event()
        self._wanted_back = threading.Event()
        self._counts: dict[str, int] | None = None
        self._attempts = self._yields = 0
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
        """Stop here if somebody wants the device back.

        Raises:
            Yielded: They do.
        """
        if self._wanted_back.is_set():
            raise Yielded(self._words, hint="`embedmill resume` goes on")

    @property
    def _words(self) -> str:
        return f"worker {self._worker} was asked to stop{f': {self._reason}' if self._reason else ''}"

    def start(self, rows: int) -> None:
        """A shard of this many rows begins."""
        self._shard_done, self._shard_rows = 0, rows
        self._attempts += 1

    def advance(self, rows: int) -> None:
        """Rows were embedded; the place where work can stop between two batches."""
        self._rows_done += rows
        self._shard_done += rows
        if not self._threaded:
            self._pulse()
        self.check()

    @contextlib.contextmanager
    def beating(self, lease: HeldLease) -> Iterator[None]:
        """Keep this lease alive inside the block; give it up if the block fails."""
        self._lease = lease
        try:
            yield
        except BaseException:
            with contextlib.suppress(StoreError):
                lease.release()
            raise
        finally:
            self._lease = None

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
        """The loop hangs, and somebody waits: leave the shard to others, and the device to them."""
        if self._lease is not None:
            threading.Thread(target=self._lease.release, daemon=True).start()
            time.sleep(RELEASE_S)
        end_now(self._words)

    def _pulse(self, *, last: bool = False) -> None:
        """Tell how far the work is; keep the lease alive where it is time."""
        lease, monotonic = self._lease, self._home.world.monotonic
        with contextlib.suppress(StoreError):  # telling is not worth failing for; work itself will see
            self._tell(lease, last=last)
            if lease is not None and monotonic() - self._last_beat >= self._beat_s:
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
