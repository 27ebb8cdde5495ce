"""Exact scores of small segments, made by a second thread while the one that asks walks a graph.

    asks   ── begin ─────── graph ─────── all: takes what is there, makes the rest ──▶
    helps     └─▶ wakes ── part ── part ──┘

Nobody waits for the helper. Where cores have other work it wakes late or loses its core halfway, and the
thread that asks makes those scores itself, as if there were no helper (docs/decisions/0064).
"""

from __future__ import annotations

import os
import threading
import weakref
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedmill.types import Vectors

_NO_PRIORITY = os.sched_param(0)


class Scores:
    """What one query float32[D] scores with the rows of each part. Two threads may make them together."""

    def __init__(self, query_D: Vectors, parts: Sequence[Vectors]) -> None:
        """Make none yet; parts are float32[N, D]."""
        self._query_D = query_D
        self._parts = parts
        self._left = list(range(len(parts)))
        self._made: list[Vectors | None] = [None] * len(parts)

    def make(self) -> None:
        """Make those that nobody has begun."""
        with suppress(IndexError):  # none is left
            while True:
                number = self._left.pop()  # which the other thread can then not take
                self._made[number] = self._of(number)

    def all(self) -> list[Vectors]:
        """float32[N, 1] of each part. What the other thread has begun and not ended is made here, too."""
        self.make()
        return [self._of(number) if made is None else made for number, made in enumerate(self._made)]

    def _of(self, number: int) -> Vectors:
        # A dot product a row: too short for BLAS to divide, and the same whoever makes it (see 0057).
        scores: Vectors = np.matmul(self._parts[number][:, None, :], self._query_D)
        return scores


class Helper:
    """A thread that stands by. It starts when it is needed first, and ends with this object."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self._standing: _Standing | None = None

    def begin(self, scores: Sequence[Scores]) -> bool:
        """Have these made meanwhile, soon or too late; False where the helper is busy, or none can start."""
        standing = self._standing
        if standing is None or not standing.thread.is_alive():  # not yet, or only before a fork
            try:
                standing = self._standing = _Standing()
            except RuntimeError:  # no more threads, or Python ends
                return False
        if not standing.free.acquire(blocking=False):
            return False
        standing.asked.put(scores)
        return True


class _Standing:
    """One thread, what it is asked for, and a lock that is held until that is done."""

    def __init__(self) -> None:
        self.asked: SimpleQueue[Sequence[Scores] | None] = SimpleQueue()
        self.free = threading.Lock()
        self.thread = threading.Thread(
            target=_stand_by, args=(self.asked, self.free), name="exact-scores", daemon=True
        )
        self.thread.start()
        weakref.finalize(self, self.asked.put, None)


def _stand_by(asked: SimpleQueue[Sequence[Scores] | None], free: threading.Lock) -> None:
    with suppress(OSError):  # forbidden: then it may take its core from the thread that asks
        os.sched_setscheduler(
            0, os.SCHED_BATCH, _NO_PRIORITY
        )  # of this thread: it wakes where a core is idle
    while (scores := asked.get()) is not None:
        try:
            _make(scores)
        finally:
            del scores  # they hold mapped files
            free.release()


def _make(scores: Sequence[Scores]) -> None:
    for each in scores:
        each.make()
