"""The gate on search: does the candidate find what people look for as well as the live release does?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from embedmill.errors import ModelError
from embedmill.gates.measures import Interval, Scores, bootstrap, ndcg, recall
from embedmill.gates.queries import LabelledQuery, load_queries
from embedmill.release.items import ID
from embedmill.release.values import python_value
from embedmill.spec.documents import Verdict
from embedmill.words import counted, portion

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from embedmill.model import ModelPackage
    from embedmill.release.reader import Release
    from embedmill.spec import GateLimits
    from embedmill.spec.pipeline import RelevanceLimits

GATE = "relevance"
ENCODER = "query_text"
MEASURES = {"recall": recall, "nDCG": ndcg}


def check_relevance(limits: GateLimits, root: Path, package: ModelPackage) -> None:
    """Find out before anything is computed whether the gate can run; `root` is the spec's folder.

    Raises:
        SpecError: The queries are missing or damaged.
        ModelError: The model has no encoder for texts of queries.
    """
    if limits.relevance is None:
        return
    load_queries(root / limits.relevance.queries)
    if ENCODER not in package.spec.encoders:
        raise ModelError(
            f"{package.root}: gates.relevance asks in words, and the model has no encoder {ENCODER}",
            hint="declare it in model.yaml, or remove gates.relevance",
        )


def relevance(candidate: Release, baseline: Release | None) -> Verdict:
    """Labelled queries, asked of both releases, each by its own query encoder.

    Fails if the candidate is below a floor, or worse than the live release with confidence: the upper end of
    the interval of the mean difference is below -tolerance. Only items count that both releases have, so that
    items which come and go change nothing; for the floor those of the candidate.
    """
    limits = candidate.content.pipeline.gates.relevance
    if limits is None:
        return _passed("no labelled queries are configured (gates.relevance)")
    queries = load_queries(Path(limits.queries))
    ours = _Asked.of(candidate, queries, limits.k)
    unknown = sum(len(query.grades.keys() - ours.present) for query in queries)
    labels = sum(len(query.grades) for query in queries)
    absent = "; " + portion(unknown, labels, "labelled item", "is not in the candidate") if unknown else ""
    judged = ours.scores(queries, ours.present)
    if not judged.queries:
        return Verdict(
            gate=GATE,
            passed=False,
            message=f"no labelled item of {_queries(len(queries))} is in the candidate",
        )
    said = f"{_queries(judged.queries)}: {judged.means(limits.k)}{_unasked(len(queries) - judged.queries)}"
    compared = _beside_live(ours, baseline, queries, limits)
    low = _below_floor(limits, judged)
    said = "; ".join(filter(None, (said, low, compared.message))) + absent
    return compared.model_copy(update={"message": said, "passed": compared.passed and not low})


def _beside_live(
    ours: _Asked, baseline: Release | None, queries: Sequence[LabelledQuery], limits: RelevanceLimits
) -> Verdict:
    """The candidate beside the live release; passes where there is nothing to compare with."""
    if baseline is None:
        return _passed("nothing was published yet to compare with")
    if ENCODER not in baseline.content_encoders:
        return _passed(f"the live release's model has no encoder {ENCODER} to compare with")
    compared = _compared(ours, _Asked.of(baseline, queries, limits.k), queries, limits)
    return compared or _passed("the live release has none of these items to compare with")


@dataclass(frozen=True)
class _Scored:
    """Figures of the queries that have an item to find: measure → float64[Q]."""

    by_measure: dict[str, Scores]

    @property
    def queries(self) -> int:
        return len(self.by_measure["recall"])

    def means(self, k: int) -> str:
        return ", ".join(f"{name}@{k} {scores.mean():.4f}" for name, scores in self.by_measure.items())


@dataclass(frozen=True)
class _Asked:
    """What a release answers: the ids of each query's hits, and which labelled items it has."""

    hits: list[list[str]]
    present: set[str]
    k: int

    @classmethod
    def of(cls, release: Release, queries: Sequence[LabelledQuery], k: int) -> _Asked:
        vectors_QD = release.encoder(ENCODER).encode_texts([query.text for query in queries])
        hits = [[str(hit.id) for hit in release.search(vector=vector, k=k)] for vector in vectors_QD]
        return cls(hits, _present(release, {id_ for query in queries for id_ in query.grades}), k)

    def scores(self, queries: Sequence[LabelledQuery], counted: Collection[str]) -> _Scored:
        """Figures by what is `counted`; queries with nothing to find then are left out."""
        wanted = [{id_: grade for id_, grade in q.grades.items() if id_ in counted} for q in queries]
        asked = [(ids, grades) for ids, grades in zip(self.hits, wanted, strict=True) if grades]
        return _Scored(
            {
                name: np.array([measure(ids, grades, self.k) for ids, grades in asked], dtype=np.float64)
                for name, measure in MEASURES.items()
            }
        )


def _present(release: Release, wanted: set[str]) -> set[str]:
    """Those of the ids that are items of the release."""
    found: set[str] = set()
    for batch in release.items([ID]):
        found |= wanted & {str(python_value(id_)) for id_ in batch.column(ID)}
    return found


def _below_floor(limits: RelevanceLimits, judged: _Scored) -> str:
    floors = {"recall": limits.min_recall, "nDCG": limits.min_ndcg}
    low = [
        f"{name}@{limits.k} is below the floor of {floor:g}"
        for name, floor in floors.items()
        if floor is not None and float(judged.by_measure[name].mean()) < floor
    ]
    return ", ".join(low)


def _compared(
    ours: _Asked, theirs: _Asked, queries: Sequence[LabelledQuery], limits: RelevanceLimits
) -> Verdict | None:
    """The candidate beside the live release; None where they share no labelled item."""
    common = ours.present & theirs.present
    mine, live = ours.scores(queries, common), theirs.scores(queries, common)
    if not mine.queries:
        return None
    intervals: dict[str, Interval] = {
        name: bootstrap(mine.by_measure[name] - live.by_measure[name], limits.confidence) for name in MEASURES
    }
    said = ", ".join(
        f"{name}@{limits.k} {found.mean:+.4f} ({found.low:+.4f} to {found.high:+.4f})"
        for name, found in intervals.items()
    )
    worst = min(found.high for found in intervals.values())
    lowest = 0.0 - limits.tolerance
    passed = worst >= lowest
    verdict = "" if passed else "worse "
    allowed = f", allowed {lowest:+.4f}" if limits.tolerance or not passed else ""
    return Verdict(
        gate=GATE,
        passed=passed,
        found=worst,
        limit=lowest,
        message=f"{verdict}against the live release: {said} at {limits.confidence:.0%} confidence{allowed}",
    )


def _unasked(count: int) -> str:
    return f" ({count:,} more {'has' if count == 1 else 'have'} no item there)" if count else ""


def _queries(count: int) -> str:
    return counted(count, "query", "queries")


def _passed(message: str) -> Verdict:
    return Verdict(gate=GATE, passed=True, message=message)
