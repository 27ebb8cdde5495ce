"""How good a ranking is, and how sure a difference.

recall@k: the share of the relevant items that are among the first k hits.
nDCG@k: the hits' grades, each divided by log2(rank + 1), over the same sum of the best order (Järvelin and
Kekäläinen, ACM TOIS 20(4), 2002; grades count linearly, as in trec_eval).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Scores: TypeAlias = "np.ndarray[tuple[int], np.dtype[np.float64]]"
"""float64[Q]: one figure a query."""

RESAMPLES = 10_000
SEED = 2002
_AT_ONCE = 1 << 22
"""Drawn queries that are in memory at once."""


@dataclass(frozen=True)
class Interval:
    """A mean, and where it lies with some confidence."""

    mean: float
    low: float
    high: float


def recall(ids: Sequence[str], grades: Mapping[str, float], k: int) -> float:
    """recall@k of one ranking; all of `grades` are > 0."""
    return sum(id_ in grades for id_ in ids[:k]) / len(grades)


def ndcg(ids: Sequence[str], grades: Mapping[str, float], k: int) -> float:
    """nDCG@k of one ranking; all of `grades` are > 0."""
    gained = _discounted([grades.get(id_, 0.0) for id_ in ids[:k]])
    return gained / _discounted(sorted(grades.values(), reverse=True)[:k])


def bootstrap(differences: Scores, confidence: float) -> Interval:
    """The percentile interval of the mean over queries, by `RESAMPLES` draws with one seed.

    Paired, as each query's difference is drawn as one (Efron and Tibshirani, An Introduction to the
    Bootstrap, 1993, chapter 13).
    """
    random = np.random.default_rng(SEED)
    count = len(differences)
    step = max(1, _AT_ONCE // count)
    means = [
        differences[random.integers(0, count, size=(min(step, RESAMPLES - done), count))].mean(axis=1)
        for done in range(0, RESAMPLES, step)
    ]
    tail = (1.0 - confidence) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1.0 - tail])
    return Interval(float(differences.mean()), float(low), float(high))


def _discounted(grades: Sequence[float]) -> float:
    ranks = np.arange(1, len(grades) + 1)
    return float((np.asarray(grades, dtype=np.float64) / np.log2(ranks + 1)).sum())
