"""The least effort with which a graph finds enough, measured while it is built (docs/decisions/0046,
0054).

The last rows of a segment are held out until the others are in the graph, and searched for: rows lie in
the order of digests, so these are a random sample of what the segment holds, and no more in the graph than a
query will be. A row that is in it finds itself and what it is linked to, and would promise too much.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from embedmill.index.base import Selection
from embedmill.index.faiss import UNMEASURED, HnswIndex
from embedmill.index.flat import FlatIndex

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from embedmill.index.base import Nearest
    from embedmill.spec import IndexSpec
    from embedmill.types import Vectors

K = 10
HELD_OUT, FEWEST = 1_000, 2_000
"""Rows that are searched for, at most a twentieth; of a segment with fewer than `FEWEST` none is."""
AT_ONCE = 100
LOWEST, HIGHEST = 16, 4096
ROUNDING = 1e-6
"""Two sums of the same products may differ by so much; where a score is above 1, by so much of it."""
SURE = 2.0
"""So many standard errors the recall of the sample must be above what is wanted."""
WORTH = 0.001
"""Where no effort reaches the recall: more effort that finds no more than this is not spent."""


class Built(NamedTuple):
    """A graph, the effort to search it with, and the recall@10 that the sample had; None if not measured."""

    graph: HnswIndex
    search_effort: int
    recall: float | None


def build_graph(parts: Sequence[Vectors], dimension: int, spec: IndexSpec) -> Built:
    """A graph over float32[N, D] arrays, in order, with the effort that `spec` states or its recall needs.

    Raises:
        MissingExtra: FAISS is not installed.
    """
    rows = sum(map(len, parts))
    if spec.search_effort is not None or rows < FEWEST:
        index = HnswIndex.build(parts, dimension, spec)
        return Built(index, spec.search_effort or UNMEASURED, None)
    kept, queries_QD = _held_out(parts, min(HELD_OUT, rows // 20))
    index = HnswIndex.build(kept, dimension, spec)
    effort, recall = _least_effort(index, kept, queries_QD, spec.recall)
    index.add(queries_QD)
    return Built(index, effort, recall)


def _held_out(parts: Sequence[Vectors], wanted: int) -> tuple[list[Vectors], Vectors]:
    """All rows but the last ones, and those."""
    kept = list(parts)
    held: list[Vectors] = []
    while wanted:
        last = kept.pop()
        cut = max(0, len(last) - wanted)
        held.insert(0, last[cut:])
        wanted -= len(last) - cut
        if cut:
            kept.append(last[:cut])
    return kept, np.concatenate(held)


def _least_effort(
    index: HnswIndex, parts: Sequence[Vectors], queries_QD: Vectors, wanted: float
) -> tuple[int, float]:
    """The first effort that surely reaches the recall, else the first that finds as much as the highest.

    With it the recall that it has.
    """
    everything = Selection(np.ones(sum(map(len, parts)), dtype=np.bool_))
    exact = FlatIndex(parts)
    starts = range(0, len(queries_QD), AT_ONCE)
    least_Q = np.concatenate(
        [exact.search(queries_QD[at : at + AT_ONCE], K, everything).scores_QK[:, -1] for at in starts]
    )
    tried: list[tuple[int, float]] = []
    for effort in _efforts(min(HIGHEST, len(everything.live))):
        recalls_Q = _recalls(index.with_effort(effort).search(queries_QD, K, everything), least_Q)
        tried.append((effort, float(recalls_Q.mean())))
        error = float(recalls_Q.std()) / len(recalls_Q) ** 0.5
        if tried[-1][1] - SURE * error >= wanted:
            return effort, round(tried[-1][1], 4)
    most = max(found for _, found in tried)
    effort, found = next(each for each in tried if each[1] >= most - WORTH)
    return effort, round(found, 4)


def _efforts(highest: int) -> Iterator[int]:
    """16, 24, 32, 48, 64 and so on: each at most 1.5 times the one before."""
    doubled = (LOWEST << number for number in itertools.count())
    steps = (step for power in doubled for step in (power, power * 3 // 2))
    yield from itertools.takewhile(lambda step: step < highest, steps)
    yield highest


def _recalls(found: Nearest, least_Q: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Of each query, the share of neighbours found that are as near as the exact `K`th, whose score is given.

    By scores and not by rows: of rows that are equally near, any is as good.
    """
    enough_Q = least_Q - ROUNDING * np.maximum(1.0, np.abs(least_Q))
    near: npt.NDArray[np.bool_] = (found.rows_QK >= 0) & (found.scores_QK >= enough_Q[:, None])
    return np.asarray(near.mean(axis=1), dtype=np.float64)
