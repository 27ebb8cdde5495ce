"""The gate on the model package itself: its weights make the vectors of its own goldens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedmill.model import ModelPackage
from embedmill.model.agreement import agreements, said_wrong
from embedmill.model.goldens import LOWEST_COSINE
from embedmill.release.verdicts import AGREEMENT, agreement_shown
from embedmill.spec.documents import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedmill.model.agreement import Agreement
    from embedmill.release.reader import Release

GATE = AGREEMENT


def goldens(candidate: Release, baseline: Release | None) -> Verdict:
    """Every encoder of the package makes the vectors that its goldens have.

    Computed once for a package: a refresh of a release that showed it has nothing to show. What this machine
    cannot compute is not compared, and the verdict says so.
    """
    shown = agreement_shown(baseline, candidate.content.package_digest)
    if shown is not None and baseline is not None:
        message = f"release {baseline.name} has the same package, and showed it"
        return shown.model_copy(update={"message": message})
    name = candidate.content.pipeline.model
    found = agreements(ModelPackage.open(candidate.model_folder))
    wrong = said_wrong(found)
    if wrong:
        message = (
            f"the model package {name} contradicts its own goldens: {wrong}; "
            "`embedmill model check` of it shows each runtime"
        )
        return Verdict(gate=GATE, passed=False, found=_lowest(found), limit=LOWEST_COSINE, message=message)
    unknown = [f"encoder {each.encoder} was not compared: {each.unknown}" for each in found if each.unknown]
    compared = [f"{each.encoder} {each.lowest:.6f}" for each in found if each.lowest is not None]
    said = f"lowest cosines with the package's goldens: {', '.join(compared) or 'it has none'}"
    message = "; ".join([said, *unknown] if compared or not unknown else unknown)
    lowest = None if unknown else _lowest(found)
    return Verdict(gate=GATE, passed=True, found=lowest, limit=LOWEST_COSINE, message=message)


def _lowest(found: Sequence[Agreement]) -> float | None:
    return min((each.lowest for each in found if each.lowest is not None), default=None)
