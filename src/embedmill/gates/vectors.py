"""Gates on the vectors that the run itself computed; older ones passed when they were new."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embedmill.model import ModelPackage
from embedmill.spec.documents import Verdict
from embedmill.words import portion

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from embedmill.release.reader import Release
    from embedmill.types import Vectors

NORM_TOLERANCE = 1e-3
CONSTANT_SPREAD = 1e-6
SAME_ROWS = 10
"""Fewer vectors may well be equal: texts that differ only beyond the model's length, say."""


@dataclass(frozen=True)
class Vectorcheck:
    """Counts one kind of bad vector."""

    gate: str
    what: str
    """Said of one, such as `is zero`."""
    bad: int
    rows: int

    def verdict(self) -> Verdict:
        """No bad vector is allowed."""
        message = portion(self.bad, self.rows, "new vector", self.what)
        return Verdict(gate=self.gate, passed=self.bad == 0, found=self.bad, limit=0, message=message)


def dimension(candidate: Release, baseline: Release | None) -> Verdict:
    """Every new vector has the declared length and type."""
    want = candidate.content.dimension
    found = {(part.shape[1], str(part.dtype)) for part in _new_parts(candidate, baseline)}
    passed = found <= {(want, candidate.content.dtype)}
    said = ", ".join(f"{dtype}[{width}]" for width, dtype in sorted(found)) or "no new vectors"
    return Verdict(
        gate="dimension", passed=passed, message=f"found {said}, declared {candidate.content.dtype}[{want}]"
    )


def finite(candidate: Release, baseline: Release | None) -> Verdict:
    """No NaN and no infinity."""
    bad = rows = 0
    for part in _new_parts(candidate, baseline):
        bad, rows = bad + int((~np.isfinite(part).all(axis=1)).sum()), rows + len(part)
    return Vectorcheck("finite", "has values that are not finite", bad, rows).verdict()


def not_zero(candidate: Release, baseline: Release | None) -> Verdict:
    """No vector of zeros."""
    bad = rows = 0
    for part in _new_parts(candidate, baseline):
        bad, rows = bad + int((~part.any(axis=1)).sum()), rows + len(part)
    return Vectorcheck("non-zero", "is zero", bad, rows).verdict()


def not_constant(candidate: Release, baseline: Release | None) -> Verdict:
    """Distinct inputs do not all get one vector, and no vector has one value all along."""
    bad = rows = 0
    extremes: list[Vectors] = []
    for part in _new_parts(candidate, baseline):
        if part.shape[1] > 1:
            bad += int((np.ptp(part, axis=1) < CONSTANT_SPREAD).sum())
        rows += len(part)
        extremes += [part.min(axis=0, keepdims=True), part.max(axis=0, keepdims=True)]
    if rows >= SAME_ROWS and _are_one(extremes):  # the baseline's files are looked into only then
        extremes += [part[:1] for part in _carried_parts(candidate, baseline)]
        bad = rows if _are_one(extremes) else bad
    return Vectorcheck("non-constant", "is constant, or all the same", bad, rows).verdict()


def norms(candidate: Release, baseline: Release | None) -> Verdict:
    """Unit length, where the model declares it."""
    if ModelPackage.open(candidate.model_folder).spec.normalize == "none":
        return Verdict(gate="norms", passed=True, message="the model does not declare unit length")
    bad = rows = 0
    for part in _new_parts(candidate, baseline):
        off = np.abs(np.linalg.norm(part, axis=1) - 1.0) > NORM_TOLERANCE
        bad, rows = bad + int(off.sum()), rows + len(part)
    return Vectorcheck("norms", f"is off unit length by more than {NORM_TOLERANCE:g}", bad, rows).verdict()


def _are_one(extremes: Sequence[Vectors]) -> bool:
    """Whether float32[n, D] arrays have one value, near enough, in each of their columns."""
    return float(np.ptp(np.concatenate(extremes), axis=0).max()) < CONSTANT_SPREAD


def _new_parts(candidate: Release, baseline: Release | None) -> Iterator[Vectors]:
    """float32[N, D] parts of the segments that the baseline does not have."""
    known = _segments_of(baseline)
    for segment in candidate.content.segments:
        if segment.name not in known:
            yield from (part.vectors_ND for part in candidate.segment_parts(segment))


def _carried_parts(candidate: Release, baseline: Release | None) -> Iterator[Vectors]:
    """float32[N, D] parts of the segments that the baseline has."""
    known = _segments_of(baseline)
    for segment in candidate.content.segments:
        if segment.name in known:
            yield from (part.vectors_ND for part in candidate.segment_parts(segment))


def _segments_of(release: Release | None) -> set[str]:
    return {segment.name for segment in release.content.segments} if release is not None else set()
