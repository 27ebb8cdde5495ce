"""Recall of a release's search against comparing every vector."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedmill.index import FlatIndex, Selection

if TYPE_CHECKING:
    from embedmill.release.reader import Release
    from embedmill.types import Mask, Rows, Vectors

AT_ONCE = 100
"""Queries: so many scores a vector are in memory."""


def exact_rows(release: Release, queries_QD: Vectors, k: int) -> Rows:
    """int64[Q, k]: rows of the nearest vectors that items refer to, by comparing them all."""
    live: Mask = np.zeros(len(release.table), dtype=np.bool_)
    live[release.item_rows[release.item_rows >= 0]] = True
    selection = Selection(live)
    index = FlatIndex([part.vectors_ND for part in release.table.parts])
    found = [
        index.search(queries_QD[start : start + AT_ONCE], k, selection).rows_QK
        for start in range(0, len(queries_QD), AT_ONCE)
    ]
    return np.concatenate(found)


def recall(found_QK: Rows, exact_QK: Rows) -> float:
    """The share of the exact rows that were found."""
    hits = [len(np.intersect1d(found, exact)) for found, exact in zip(found_QK, exact_QK, strict=True)]
    return sum(hits) / exact_QK.size
