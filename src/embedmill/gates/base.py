"""The gate seam: a function of the candidate and the live release, which is the baseline."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Protocol

from embedmill.errors import GateFailed, SpecError
from embedmill.spec.documents import Gates, ReleaseName, Verdict

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from embedmill.release.reader import Release

OVERRIDABLE = frozenset({"quarantine", "empty", "churn", "relevance"})
"""Gates that a person may accept a failure of; no others."""

OF_PRODUCTION = frozenset({"environment", "parity"})
"""Gates that find fault with where a candidate is to be served, and never with what was computed."""

OWN_ANEW = "what the stopped run computed is then computed anew"
"""What it costs to close a run whose vectors a gate found bad; those of earlier releases stay."""


class Gate(Protocol):
    """Looks at a candidate beside the live release (None before the first)."""

    def __call__(self, candidate: Release, baseline: Release | None) -> Verdict:
        """Pass or fail, with what was found, the limit, and a sentence."""
        ...


def run_gates(
    gates: Mapping[str, Gate],
    candidate: Release,
    baseline: Release | None,
    accepted: Collection[str],
    created: str,
) -> Gates:
    """Run all gates; failures of `accepted` ones are recorded as accepted. `created`: the time."""
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
        created=created,
    )


def check_acceptable(accepted: Collection[str], *, option: str = "accept:") -> None:
    """Refuse names that are not of gates whose failure may be accepted; `option`: where they were given.

    Raises:
        SpecError: There is one.
    """
    names = [accepted] if isinstance(accepted, str) else sorted(set(accepted) - OVERRIDABLE)
    if not names:
        return
    allowed = f"allowed are {', '.join(sorted(OVERRIDABLE))}"
    if isinstance(accepted, str):
        raise SpecError(f"{option} {accepted!r} is a text", hint=f"give a list of names; {allowed}")
    near = difflib.get_close_matches(names[0], OVERRIDABLE, n=1)
    raise SpecError(
        f"{option} {', '.join(names)}: {allowed}", hint=f"did you mean {near[0]}?" if near else ""
    )


def gate_failure(gates: Gates) -> GateFailed:
    """What stands against a candidate, and what to do."""
    failed = [verdict for verdict in gates.verdicts if not (verdict.passed or verdict.accepted)]
    said = "; ".join(f"{verdict.gate}: {verdict.message}" for verdict in failed)
    may = sorted({verdict.gate for verdict in failed} & OVERRIDABLE)
    if "quarantine" in may:
        accepts = " ".join(f"--accept {gate}" for gate in may)
        hint = (
            "`embedmill check --quarantine` lists them; mend them, and run again: what is computed is kept; "
            f"to publish without them, run again with {accepts}"
        )
    elif may:
        hint = f"if this is right, run again with {' '.join(f'--accept {gate}' for gate in may)}"
    elif {verdict.gate for verdict in failed} <= OF_PRODUCTION:
        hint = "mend production, and run again: nothing is computed anew"
    else:
        hint = f"fix the cause, then `embedmill cancel` and run again: {OWN_ANEW}"
    return GateFailed(f"release {gates.release} was not published: {said}", hint=hint)
