"""Whether vectors are those that are stored, and in what way they are not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from embedmill.model.goldens import LOWEST_COSINE, cosines
from embedmill.spec.parity import Cosines, ParityCheck
from embedmill.words import counted, portion

if TYPE_CHECKING:
    from embedmill.release.reader import Release
    from embedmill.spec import Precision
    from embedmill.types import Mask, Vectors

LENGTH_SLACK = 0.01
"""How much longer or shorter a vector may be than the stored one, as a share of it."""
HITS = 10
QUERIES = 64
LOWEST_OVERLAP = 0.98
"""Share of the first `HITS` that must be as near as those of the stored vector, on average."""
TIE = 1e-4
"""Scores that differ by less, as a share of the vectors' lengths, are a tie."""


@dataclass(frozen=True)
class Tolerance:
    """The cosines that are demanded: the lowest, and the one that 99 of 100 must reach."""

    lowest: float = LOWEST_COSINE
    p1: float = LOWEST_COSINE

    @classmethod
    def of(cls, precision: Precision) -> Tolerance:
        """Lower precisions round differently from batch to batch."""
        return cls() if precision == "float32" else cls(lowest=0.99, p1=0.999)


def compare(name: str, vectors: Vectors, stored: Vectors, tolerance: Tolerance) -> ParityCheck:
    """Compare vectors with those that are stored, float32[N, D] both."""
    finite: Mask = np.logical_and.reduce(np.isfinite(vectors), axis=1)
    near = np.where(finite, cosines(np.where(finite[:, None], vectors, 0.0), stored), -1.0)
    p1, median = np.quantile(near, [0.01, 0.5])
    said = Cosines(rows=len(near), lowest=float(near.min()), p1=float(p1), median=float(median))
    wrong = [
        *_wrong_directions(near, vectors, stored, finite, tolerance, float(p1)),
        *_wrong_lengths(near, vectors, stored, tolerance),
    ]
    message = "; ".join(wrong) or f"{counted(len(near), 'row')}, lowest cosine {near.min():.6f}"
    return ParityCheck(check=name, passed=not wrong, message=message, cosines=said)


def _wrong_directions(
    near: npt.NDArray[np.float64],
    vectors: Vectors,
    stored: Vectors,
    finite: Mask,
    tolerance: Tolerance,
    p1: float,
) -> list[str]:
    moved = np.flatnonzero(~(near >= tolerance.lowest))
    if not len(moved):
        low = p1 < tolerance.p1
        return [f"of 100 cosines the lowest is {p1:.6f}, below {tolerance.p1}"] if low else []
    worst = int(np.argmin(near))
    lowest = f"{near[worst]:.6f} (row {worst}), below {tolerance.lowest}"
    other = portion(len(moved), len(near), "row", "has other vectors")
    said = [f"{other}: the lowest cosine is {lowest}"]
    if not finite.all():
        nan = int((~finite).sum())
        said.append(f"{nan} of them {'is' if nan == 1 else 'are'} not finite")
    foreign = _of_other_rows(vectors[moved], moved, stored, tolerance)
    if foreign:
        row, owner = foreign[0]
        have = "has that of another row" if len(foreign) == 1 else "have those of other rows"
        said.append(f"{len(foreign)} of them {have}: row {row} that of row {owner}")
    return said


def _of_other_rows(
    vectors: Vectors, rows: npt.NDArray[np.intp], stored: Vectors, tolerance: Tolerance
) -> list[tuple[int, int]]:
    """Rows whose vectors are stored, but for another row."""
    units = stored / np.maximum(np.linalg.norm(stored, axis=1, keepdims=True), 1e-30)
    found = []
    for row, vector in zip(rows.tolist(), np.nan_to_num(vectors), strict=True):
        scores = units @ (vector / max(float(np.linalg.norm(vector)), 1e-30))
        owner = int(np.argmax(scores))
        if owner != row and scores[owner] >= tolerance.lowest:
            found.append((row, owner))
    return found


def _wrong_lengths(
    near: npt.NDArray[np.float64], vectors: Vectors, stored: Vectors, tolerance: Tolerance
) -> list[str]:
    """Rows that point where they should, and are longer or shorter: cosines do not show that."""
    lengths, wanted = np.linalg.norm(vectors, axis=1), np.linalg.norm(stored, axis=1)
    off = np.abs(lengths - wanted) > LENGTH_SLACK * np.maximum(wanted, 1e-30)
    rows = np.flatnonzero(off & (near >= tolerance.lowest))
    if not len(rows):
        return []
    row = int(rows[0])
    found = f"row {row} {lengths[row]:.4f} and not {wanted[row]:.4f}; is it normalised differently?"
    return [f"{portion(len(rows), len(near), 'vector', 'has another length')}: {found}"]


def search_alike(release: Release, found: Vectors, stored: Vectors) -> ParityCheck:
    """Whether the server's vectors find what the stored ones find.

    Hits count as the same where the stored vector has them as near as its own last one: ties are no
    difference.
    """
    found, stored = found[:QUERIES], stored[:QUERIES]
    wanted = release.searcher.nearest(stored, HITS)
    got = release.searcher.nearest(found, HITS)
    shares = []
    for query, theirs, own_rows, own in zip(
        stored, got.rows_QK, wanted.rows_QK, wanted.scores_QK, strict=True
    ):
        there = int((own_rows >= 0).sum())
        if there:
            scores = release.table.vectors(theirs[theirs >= 0]) @ query
            last = own[there - 1] - TIE * max(1.0, abs(float(own[0])))
            shares.append(int((scores >= last).sum()) / there)
    mean = float(np.mean(shares)) if shares else 1.0
    queries = counted(len(shares), "query", "queries")
    message = f"{mean:.2%} of the first {HITS} hits of {queries} are the same or as near"
    if mean < LOWEST_OVERLAP:
        message += f", below {LOWEST_OVERLAP:.0%}"
    return ParityCheck(check="search", passed=mean >= LOWEST_OVERLAP, message=message)
