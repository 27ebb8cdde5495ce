"""Which fingerprints a release has vectors of, asked for those of a whole catalog.

A release of ten million vectors has thousands of files, and looking into each for every batch of the catalog
takes longer than all else. So their fingerprints are put behind each other once, in a file that is mapped.
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
    from embedmill.types import Digests, Mask

Halves = npt.NDArray[np.uint64]

FEW_ROWS = 1 << 16
"""Vectors of which no copy of the fingerprints is worth its while."""


class KnownPrints:
    """The fingerprints of a vector table, 16 bytes each in mapped files: none of it is anonymous memory."""

    def __init__(self, table: VectorTable, folder: Path, *, few_rows: int = FEW_ROWS) -> None:
        """Write the files, unless the table has few rows."""
        self._table = table
        self._runs: list[tuple[Halves, Halves]] = []
        if len(table) <= few_rows or not len(table):
            return
        folder.mkdir()
        files = folder / "high", folder / "low"
        with files[0].open("wb") as high_file, files[1].open("wb") as low_file:
            for part in table.parts:
                high, low = halves(part.fingerprints)
                high_file.write(high.tobytes())
                low_file.write(low.tobytes())
        high, low = (np.memmap(file, dtype=np.uint64, mode="r") for file in files)
        bounds = [0, *(int(table.starts[number]) for number in _descents(table)), len(table)]
        self._runs = [(high[start:end], low[start:end]) for start, end in pairwise(bounds)]

    def has(self, prints: Digests) -> Mask:
        """bool[N]: whether there is a vector of each fingerprint."""
        if not self._runs:
            return self._table.locate(prints) >= 0
        high, low = halves(prints)
        order = np.argsort(high)
        high, low = high[order], low[order]
        there, unsure = np.zeros(len(prints), dtype=np.bool_), np.zeros(len(prints), dtype=np.bool_)
        for known_high, known_low in self._runs:
            at = np.minimum(np.searchsorted(known_high, high), len(known_high) - 1)
            same = known_high[at] == high
            same_low = known_low[at] == low
            there |= same & same_low
            unsure |= same & ~same_low
        found: Mask = np.empty(len(prints), dtype=np.bool_)
        found[order] = there
        doubted = order[unsure & ~there]
        found[doubted] = self._table.locate(prints[doubted]) >= 0
        return found


def _descents(table: VectorTable) -> list[int]:
    """Parts that do not ascend from the one before: where segments begin."""
    prints = [part.fingerprints for part in table.parts]
    return [number + 1 for number, (one, next_) in enumerate(pairwise(prints)) if one[-1] >= next_[0]]
