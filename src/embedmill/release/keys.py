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
        self._runs: list[tuple[int, Halves, Halves]] = []
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
        order = np.argsort(high)
        high, low = high[order], low[order]
        rows: Rows = np.full(len(order), -1, dtype=np.int64)
        unsure = np.zeros(len(order), dtype=np.bool_)
        for start, known_high, known_low in self._runs:
            at = np.minimum(np.searchsorted(known_high, high), len(known_high) - 1)
            same = known_high[at] == high
            equal = same & (known_low[at] == low)
            rows[order[equal]] = start + at[equal]
            unsure |= same & ~equal
        doubted = order[unsure]
        rows[doubted] = self._table.locate(fingerprints[doubted])
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
        self._runs = [(start, every_high[start:end], every_low[start:end]) for start, end in pairwise(bounds)]

    def _copy_digests(self, file: Path) -> None:
        with file.open("wb") as copied:
            for part in self._table.parts:
                copied.write(part.digests.tobytes())
        self._digests = np.memmap(file, dtype="S16", mode="r").view(np.ndarray)


def _descents(table: VectorTable) -> list[int]:
    """Parts that do not ascend from the one before: where segments begin."""
    prints = [part.fingerprints for part in table.parts]
    return [number + 1 for number, (one, next_) in enumerate(pairwise(prints)) if one[-1] >= next_[0]]
