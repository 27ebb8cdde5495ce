"""Exact search: every live vector is compared. The ground truth, and the choice for small segments."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from embedmill.index.base import Nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from embedmill.index.base import Selection
    from embedmill.types import Rows, Vectors


SMALL_NUMBERS = 1 << 24
"""A segment of so many is compared with one query by the thread that asks (docs/decisions/0057)."""

HEIGHT, MANY = 32, 8
"""A bound of the `k` largest of many scores is found among the largest of each 32, if these are 8 `k`."""


class FlatIndex:
    """Compares queries with the parts of a segment, one after the other."""

    def __init__(self, parts: Sequence[Vectors], *, small_numbers: int = SMALL_NUMBERS) -> None:
        """Search these float32[N, D] arrays as one; nothing is copied."""
        self.parts = tuple(parts)
        self.small = bool(parts) and sum(part.size for part in parts) <= small_numbers
        """One query is compared row by row, and may be so by a second thread."""

    def search(self, queries_QD: Vectors, k: int, selection: Selection) -> Nearest:
        """The `k` best live rows; ties go to the smaller row."""
        if self.small and len(queries_QD) == 1:
            return self.begin(queries_QD, k, selection).end()
        if not self.parts:
            none = np.zeros((len(queries_QD), 0))
            return best_of(none, none, k)
        return _best((queries_QD @ part.T for part in self.parts), k, selection.dead_rows)

    def begin(self, query_1D: Vectors, k: int, selection: Selection) -> Begun:
        """The same for one query in a `small` segment, in which a second thread may help."""
        return Begun(self.parts, query_1D[0], k, selection.dead_rows)


class Begun:
    """A search for one query float32[D], by the thread that asks and perhaps by a helper."""

    def __init__(self, parts: Sequence[Vectors], query_D: Vectors, k: int, dead_rows: Rows) -> None:
        """Do nothing yet; parts are float32[N, D]."""
        self._parts = parts
        self._query_D = query_D
        self._k = k
        self._dead_rows = dead_rows
        self._left = list(range(len(parts)))
        self._scores: list[Vectors | None] = [None] * len(parts)
        self._found: Nearest | None = None

    def help(self) -> None:
        """Compare the parts that nobody has begun, and find the best rows if that were all."""
        self._compare()
        scores = [made for made in self._scores if made is not None]
        if len(scores) == len(self._parts):
            self._found = self._best(scores)

    def end(self) -> Nearest:
        """What is found. What a helper has begun and not ended is done here, too, rather than waited for."""
        if self._found is not None:
            return self._found
        self._compare()
        return self._best(
            [self._of(number) if made is None else made for number, made in enumerate(self._scores)]
        )

    def _compare(self) -> None:
        while (number := self._take()) is not None:
            self._scores[number] = self._of(number)

    def _take(self) -> int | None:
        """A part that the other thread then does not take; None where none is left."""
        with suppress(IndexError):
            return self._left.pop()
        return None

    def _of(self, number: int) -> Vectors:
        """float32[N, 1] of one part, a dot product a row: the same whoever makes it (docs/decisions/0057)."""
        scores: Vectors = np.matmul(self._parts[number][:, None, :], self._query_D)
        return scores

    def _best(self, scores: Sequence[Vectors]) -> Nearest:
        return _best([np.concatenate(scores).reshape(1, -1)], self._k, self._dead_rows)


def _best(scores: Iterable[Vectors], k: int, dead: Rows) -> Nearest:
    """Of float32[Q, rows] of one part after the other, or of all at once; these are written to."""
    start, found = 0, []
    for score in scores:
        end = start + score.shape[1]
        if len(dead):
            first, last = np.searchsorted(dead, [start, end])
            score[:, dead[first:last] - start] = -np.inf
        best = _largest(score, k)
        found.append((best + start, score[np.arange(len(score))[:, None], best]))
        start = end
    if len(found) == 1:
        return _without_dead(*found[0])
    rows, scored = (np.concatenate(each, axis=1) for each in zip(*found, strict=True))
    return best_of(rows, scored, k)


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
