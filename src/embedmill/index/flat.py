"""Exact search: every live vector is compared. The ground truth, and the choice for small segments."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedmill.index.base import Nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedmill.index.base import Selection
    from embedmill.types import Vectors


class FlatIndex:
    """Compares queries with the parts of a segment, one after the other."""

    def __init__(self, parts: Sequence[Vectors]) -> None:
        """Search these float32[N, D] arrays as one; nothing is copied."""
        self.parts = tuple(parts)

    def search(self, queries_QD: Vectors, k: int, selection: Selection) -> Nearest:
        """The `k` best live rows; ties go to the smaller row."""
        rows, scores, start, dead = [], [], 0, selection.dead_rows
        for part in self.parts:
            score = queries_QD @ part.T
            if len(dead):
                first, last = np.searchsorted(dead, [start, start + len(part)])
                score[:, dead[first:last] - start] = -np.inf
            best = _largest(score, k)
            rows.append(best + start)
            scores.append(score[np.arange(len(score))[:, None], best])
            start += len(part)
        if not rows:
            empty = (len(queries_QD), 0)
            return Nearest(np.zeros(empty, dtype=np.int64), np.zeros(empty, dtype=np.float32))
        return best_of(np.concatenate(rows, axis=1), np.concatenate(scores, axis=1), k)


def best_of(rows_QK: np.ndarray, scores_QK: np.ndarray, k: int) -> Nearest:
    """The `k` best of candidates, in descending order; dead ones (minus infinity) become row -1."""
    order = np.lexsort((rows_QK, -scores_QK), axis=1)[:, :k]
    each = np.arange(len(order))[:, None]
    rows, scores = rows_QK[each, order], scores_QK[each, order].astype(np.float32, copy=False)
    return Nearest(np.where(np.isneginf(scores), -1, rows).astype(np.int64), scores)


def _largest(scores: np.ndarray, k: int) -> np.ndarray:
    """Columns of each row's `k` largest scores; of equal ones the first."""
    if scores.shape[1] <= k:
        return np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    least_Q = np.partition(scores, scores.shape[1] - k, axis=1)[:, -k]  # half of argpartition's time
    best = np.empty((len(scores), k), dtype=np.int64)
    for row, (score, least) in enumerate(zip(scores, least_Q, strict=True)):
        chosen = np.flatnonzero(~(score < least))
        if len(chosen) > k:  # several are as large as the last; NaN is as large as any
            larger = score > least
            chosen = np.concatenate([np.flatnonzero(larger), chosen[~larger[chosen]]])[:k]
        best[row] = chosen
    return best
