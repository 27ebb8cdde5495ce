"""A second thread, which searches small segments while the one that asks walks a graph.

    asks   ── begin ─────── graph ─────── takes what is there, makes the rest ──▶
    helps     └─▶ wakes ── part ── part ──┘

Nobody waits for the helper. Where cores have other work it wakes late or loses its core halfway, and the
thread that asks does the work itself, as if there were no helper (docs/decisions/0064).
"""

from __future__ import annotations

import os
import threading
import weakref
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


class Work(Protocol):
    """What one of two threads does, or both do together."""

    def help(self) -> object:
        """Do what nobody has begun."""
        ...


class Helper:
    """A thread that stands by. It starts when it is needed first, and ends with this object."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self._standing: _Standing | None = None

    def begin(self, work: Sequence[Work]) -> bool:
        """Have this done meanwhile, soon or too late; False where the helper is busy, or none can start."""
        standing = self._standing
        if standing is None or not standing.thread.is_alive():  # not yet, or only before a fork
            try:
                standing = self._standing = _Standing()
            except RuntimeError:  # no more threads, or Python ends
                return False
        try:
            if not standing.free.acquire(blocking=False):
                return False
            standing.asked.put(work)
        except BaseException:  # Ctrl-C, say, after the first and before the second: it would be busy for good
            self._standing = None
            raise
        return True


class _Standing:
    """One thread, what it is asked for, and a lock that is held until that is done."""

    def __init__(self) -> None:
        self.asked: SimpleQueue[Sequence[Work] | None] = SimpleQueue()
        self.free = threading.Lock()
        self.thread = threading.Thread(
            target=_stand_by, args=(self.asked, self.free), name="search-helper", daemon=True
        )
        self.thread.start()
        weakref.finalize(self, self.asked.put, None)


def _stand_by(asked: SimpleQueue[Sequence[Work] | None], free: threading.Lock) -> None:
    # It wakes on idle cores alone. Where this is forbidden it may take its core from the thread that asks.
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    while (work := asked.get()) is not None:
        with suppress(Exception):  # the thread that asks has it, too, when it does what is not done
            _help(work)
        del work  # it holds mapped files
        free.release()


def _help(work: Sequence[Work]) -> None:
    for each in work:
        each.help()
