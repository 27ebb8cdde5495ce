"""Exact search: every live vector is compared. The ground truth, and the choice for small segments."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedmill.index.base import Nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from embedmill.index.base import Selection
    from embedmill.types import Vectors


SMALL_NUMBERS = 1 << 24
"""A segment of so many is compared with one query by the thread that asks (docs/decisions/0057)."""

HEIGHT, MANY = 32, 8
"""A bound of the `k` largest of many scores is found among the largest of each 32, if these are 8 `k`."""


class FlatIndex:
    """Compares queries with the parts of a segment, one after the other."""

    def __init__(self, parts: Sequence[Vectors], *, small_numbers: int = SMALL_NUMBERS) -> None:
        """Search these float32[N, D] arrays as one; nothing is copied."""
        self.parts = tuple(parts)
        self._small = sum(part.size for part in parts) <= small_numbers

    def search(self, queries_QD: Vectors, k: int, selection: Selection) -> Nearest:
        """The `k` best live rows; ties go to the smaller row."""
        start, dead, found = 0, selection.dead_rows, []
        for score in self._scores(queries_QD):
            end = start + score.shape[1]
            if len(dead):
                first, last = np.searchsorted(dead, [start, end])
                score[:, dead[first:last] - start] = -np.inf
            best = _largest(score, k)
            found.append((best + start, score[np.arange(len(score))[:, None], best]))
            start = end
        if len(found) == 1:
            return _without_dead(*found[0])
        rows = [np.zeros((len(queries_QD), 0), dtype=np.int64), *(rows for rows, _ in found)]
        scores = [np.zeros((len(queries_QD), 0), dtype=np.float32), *(scores for _, scores in found)]
        return best_of(np.concatenate(rows, axis=1), np.concatenate(scores, axis=1), k)

    def _scores(self, queries_QD: Vectors) -> Iterator[Vectors]:
        """float32[Q, rows] of one part after the other, or at once where that is little."""
        if self._small and len(queries_QD) == 1 and self.parts:
            query_D = queries_QD[0]
            scores = [np.matmul(part[:, None, :], query_D) for part in self.parts]  # a dot product a row
            yield np.concatenate(scores).reshape(1, -1)
            return
        for part in self.parts:
            yield queries_QD @ part.T


def best_of(rows_QK: np.ndarray, scores_QK: np.ndarray, k: int) -> Nearest:
    """The `k` best of candidates, in descending order; dead ones (minus infinity) become row -1."""
    order = np.lexsort((rows_QK, -scores_QK), axis=1)[:, :k]
    each = np.arange(len(order))[:, None]
    return _without_dead(rows_QK[each, order], scores_QK[each, order])


def _without_dead(rows_QK: np.ndarray, scores_QK: np.ndarray) -> Nearest:
    rows = np.where(scores_QK == -np.inf, -1, rows_QK)
    return Nearest(rows.astype(np.int64, copy=False), scores_QK.astype(np.float32, copy=False))


def _largest(scores: np.ndarray, k: int) -> np.ndarray:
    """Columns of each row's `k` largest scores, in descending order; of equal ones the first come first."""
    k = min(k, scores.shape[1])
    best = np.empty((len(scores), k), dtype=np.int64)
    for row, score in enumerate(scores if k else ()):
        chosen = np.flatnonzero(~(score < _bound(score, k)))  # NaN is as large as any
        best[row] = chosen[np.argsort(-score[chosen], kind="stable")[:k]]
    return best


def _bound(score: np.ndarray, k: int) -> np.floating:
    """A number that at least `k` of the scores reach, and hardly more."""
    columns = len(score) // HEIGHT
    if columns >= MANY * k:
        score = score[: columns * HEIGHT].reshape(HEIGHT, columns).max(axis=0)
    bound: np.floating = np.partition(score, len(score) - k)[-k]
    return bound
