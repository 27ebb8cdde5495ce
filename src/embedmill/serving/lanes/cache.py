"""Vectors of texts that were asked for before; it belongs to one release, and ends with it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from embedmill.types import Vectors

ENTRY_BYTES = 300
"""What an entry takes beside its text and its vector."""


@dataclass(frozen=True)
class CacheCounts:
    """What a cache did, and what it holds."""

    hits: int
    misses: int
    size_bytes: int


class VectorCache:
    """The texts that were asked for last, within so many bytes; safe for threads."""

    def __init__(self, limit_bytes: int) -> None:
        """Hold so much; with 0, nothing."""
        self._limit_bytes = limit_bytes
        self._vectors: OrderedDict[str, Vectors] = OrderedDict()
        self._size_bytes = self._hits = self._misses = 0
        self._lock = threading.Lock()

    def get(self, text: str) -> Vectors | None:
        """float32[1, D], or None."""
        with self._lock:
            found = self._vectors.get(text)
            if found is None:
                self._misses += 1
                return None
            self._hits += 1
            self._vectors.move_to_end(text)
            return found

    def put(self, text: str, vector_1D: Vectors) -> None:
        """Keep a vector; the texts that nobody asked for the longest make room."""
        size = _size(text, vector_1D)
        if size > self._limit_bytes:
            return
        kept = vector_1D.copy()  # not a slice that holds a whole batch
        kept.setflags(write=False)
        with self._lock:
            self._drop(text)
            self._vectors[text] = kept
            self._size_bytes += size
            while self._size_bytes > self._limit_bytes:
                self._drop(next(iter(self._vectors)))

    @property
    def counts(self) -> CacheCounts:
        """Hits and misses since the release was loaded, and bytes."""
        with self._lock:
            return CacheCounts(self._hits, self._misses, self._size_bytes)

    def _drop(self, text: str) -> None:
        gone = self._vectors.pop(text, None)
        if gone is not None:
            self._size_bytes -= _size(text, gone)


def _size(text: str, vector: Vectors) -> int:
    return ENTRY_BYTES + 4 * len(text) + vector.nbytes
