"""The gate seam: a function of the candidate and the live release, which is the baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from embedmill.spec.document import now
from embedmill.spec.documents import Gates, ReleaseName, Verdict

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from embedmill.release.reader import Release


class Gate(Protocol):
    """Looks at a candidate beside the live release (None before the first)."""

    def __call__(self, candidate: Release, baseline: Release | None) -> Verdict:
        """Pass or fail, with what was found, the limit, and a sentence."""
        ...


def run_gates(
    gates: Mapping[str, Gate], candidate: Release, baseline: Release | None, accepted: Collection[str]
) -> Gates:
    """Run all gates; failures of `accepted` ones are recorded as accepted."""
    verdicts = [gate(candidate, baseline) for gate in gates.values()]
    name = None
    if baseline is not None and baseline.number is not None:
        name = ReleaseName(release=baseline.name, number=baseline.number)
    return Gates(
        release=candidate.name,
        baseline=name,
        verdicts=tuple(
            verdict.model_copy(update={"accepted": not verdict.passed and verdict.gate in accepted})
            for verdict in verdicts
        ),
        created=now(),
    )
