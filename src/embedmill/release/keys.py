"""Where a vector table has which fingerprint, and the digest of that vector, asked for those of all items.

A release of a million vectors has hundreds of files, and looking into each for every file of items, or
every batch of a catalog, takes longer than all else. So what is asked for is put behind each other once, in
files that are mapped.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from embedmill.digest import halves

if TYPE_CHECKING:
    from pathlib import Path

    from embedmill.release.vectors import VectorTable
    from embedmill.types import Digests, Rows

Halves = npt.NDArray[np.uint64]

FEW_ROWS = 1 << 16
"""Vectors of which no copy of the fingerprints is worth its while."""

MOST_SLOT_BITS = 16
"""Leading bits of a fingerprint that tell where to begin to look, at most: half a MiB for a segment."""


class Ascending:
    """Numbers in ascending order, and where those begin that share their leading bits.

    Fingerprints are spread evenly. So a few steps from there find any number, where a search of all takes
    twenty, and what is asked for need not be sorted. There are fewer beginnings where there are fewer
    numbers: a table may have hundreds of small segments.
    """

    def __init__(self, numbers: Halves) -> None:
        """Take uint64[N], of which there is at least one."""
        self.numbers = numbers
        bits = min(MOST_SLOT_BITS, max(1, len(numbers).bit_length() - 2))
        self._shift = np.uint64(64 - bits)
        beginnings = np.arange(1 << bits, dtype=np.uint64) << self._shift
        self._first = np.append(np.searchsorted(numbers, beginnings), len(numbers))
        self._steps = [1 << bit for bit in reversed(range(int(np.diff(self._first).max()).bit_length()))]

    def search(self, wanted: Halves) -> Rows:
        """int64[M]: how many numbers are less than each, as of `numpy.searchsorted`."""
        slots = (wanted >> self._shift).astype(np.int64)
        less, most = self._first[slots], self._first[slots + 1]
        for step in self._steps:
            more = less + step
            fits = (more <= most) & (self.numbers.take(more - 1, mode="clip") < wanted)
            less = np.where(fits, more, less)
        return less


class TableKeys:
    """Fingerprints of a vector table, and digests where wanted: 16 bytes a row each, in mapped files."""

    def __init__(
        self, table: VectorTable, folder: Path, *, digests: bool = True, few_rows: int = FEW_ROWS
    ) -> None:
        """Write the files into a folder, which is made, unless the table has few rows.

        Without `digests` only fingerprints are copied, and digests are looked up in the table.
        """
        self._table = table
        self._copied = len(table) > few_rows
        self._runs: list[tuple[int, Ascending, Halves]] = []
        self._digests: Digests | None = None
        if self._copied:
            self._copy_fingerprints(folder)
            if digests:
                self._copy_digests(folder / "digests")

    def locate(self, fingerprints: Digests) -> Rows:
        """int64[N]: row of each fingerprint in the table, -1 where there is none."""
        if not self._copied:
            return self._table.locate(fingerprints)
        high, low = halves(fingerprints)
        rows: Rows = np.full(len(high), -1, dtype=np.int64)
        unsure = np.zeros(len(high), dtype=np.bool_)
        left = np.arange(len(high))
        for start, known_high, known_low in reversed(self._runs):  # of several, the last segment counts
            at = np.minimum(known_high.search(high[left]), len(known_low) - 1)
            same = known_high.numbers[at] == high[left]
            equal = same & (known_low[at] == low[left])
            rows[left[equal]] = start + at[equal]
            unsure[left[same & ~equal]] = True
            left = left[~equal]
        rows[unsure] = self._table.locate(fingerprints[unsure])
        return rows

    def digests(self, rows: Rows) -> Digests:
        """S16[N]: the digests of these rows' vectors; empty for rows of -1."""
        if self._digests is None:
            return self._table.digests(rows)
        found: Digests = self._digests[np.maximum(rows, 0)]
        found[rows < 0] = b""
        return found

    def _copy_fingerprints(self, folder: Path) -> None:
        folder.mkdir()
        files = folder / "high", folder / "low"
        with files[0].open("wb") as highs, files[1].open("wb") as lows:
            for part in self._table.parts:
                high, low = halves(part.fingerprints)
                highs.write(high.tobytes())
                lows.write(low.tobytes())
        every_high, every_low = (
            np.memmap(file, dtype=np.uint64, mode="r").view(np.ndarray) for file in files
        )
        bounds = [
            0,
            *(int(self._table.starts[number]) for number in _descents(self._table)),
            len(self._table),
        ]
        self._runs = [
            (start, Ascending(every_high[start:end]), every_low[start:end]) for start, end in pairwise(bounds)
        ]

    def _copy_digests(self, file: Path) -> None:
        with file.open("wb") as copied:
            for part in self._table.parts:
                copied.write(part.digests.tobytes())
        self._digests = np.memmap(file, dtype="S16", mode="r").view(np.ndarray)


def _descents(table: VectorTable) -> list[int]:
    """Parts that do not ascend from the one before: where segments begin."""
    prints = [part.fingerprints for part in table.parts]
    return [number + 1 for number, (one, next_) in enumerate(pairwise(prints)) if one[-1] >= next_[0]]
