"""Gates on where the items went."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedmill.release.diff import same_contents
from embedmill.release.quarantined import NAMED, read_quarantined
from embedmill.spec.documents import Verdict
from embedmill.words import counted, portion

if TYPE_CHECKING:
    from embedmill.release.reader import Release


def accounting(candidate: Release, baseline: Release | None) -> Verdict:  # noqa: ARG001 - the seam
    """Every item read was embedded, reused, empty or quarantined; files hold just those."""
    content, total = candidate.content, candidate.content.counts.total
    there = content.embedded + content.reused + content.empty
    found, rows = there + content.quarantined, sum(entry.rows or 0 for entry in content.items)
    passed = found == total and rows == there and content.quarantine.rows == content.quarantined
    return Verdict(
        gate="accounting",
        passed=passed,
        found=found,
        limit=total,
        message=f"{total:,} read = {content.embedded:,} embedded + {content.reused:,} reused + "
        f"{content.empty:,} empty + {content.quarantined:,} quarantined; "
        f"item files have {counted(rows, 'row')}",
    )


def quarantine(candidate: Release, baseline: Release | None) -> Verdict:  # noqa: ARG001 - the seam
    """The share of items that could not be embedded."""
    content = candidate.content
    limit = content.pipeline.gates.quarantine
    verdict = _share("quarantine", content.quarantined, content.counts.total, limit, "item", "is quarantined")
    if not content.quarantined:
        return verdict
    found = read_quarantined(candidate.folder / content.quarantine.path, most=NAMED, of_each=1)
    if len(found.items) < NAMED:
        found = read_quarantined(candidate.folder / content.quarantine.path, most=NAMED, of_each=2)
    return verdict.model_copy(update={"message": f"{verdict.message}: {found}"})


def empty(candidate: Release, baseline: Release | None) -> Verdict:  # noqa: ARG001 - the seam
    """The share of items without any input."""
    content = candidate.content
    return _share(
        "empty",
        content.empty,
        content.counts.total,
        content.pipeline.gates.empty,
        "item",
        "has an empty input",
    )


def churn(candidate: Release, baseline: Release | None) -> Verdict:
    """The share of the live release's items that vanished or changed: a broken feed shows here.

    Those that are quarantined now vanished, too.

    An image that was only touched, or copied to another place, is not changed, as far as both releases know
    what images contained. A new model may read other fields, so that all items look changed: then only the
    deleted ones count.
    """
    if baseline is None:
        return Verdict(gate="churn", passed=True, message="nothing was published yet")
    content, before = candidate.content, baseline.item_count
    same_model = content.encoder_digest == baseline.content.encoder_digest
    counts = content.counts
    moved, what = counts.deleted, "is deleted (new model)"
    if same_model:
        moved, what = before - counts.unchanged, "is deleted or changed"
        lost = moved - counts.deleted - counts.changed
        what = f"is deleted, changed or quarantined ({lost:,})" if lost else what
    verdict = _share("churn", moved, before, content.pipeline.gates.churn, "live item", what)
    if verdict.passed or not (same_model and counts.changed):
        return verdict
    same = same_contents(baseline, candidate)  # which takes a moment, and seldom matters
    if not same:
        return verdict
    verdict = _share("churn", moved - same, before, content.pipeline.gates.churn, "live item", what)
    again = f"{verdict.message}; {same:,} more have images of another name or time, and of the same content"
    return verdict.model_copy(update={"message": again})


def _share(gate: str, part: int, whole: int, limit: float, what: str, said: str) -> Verdict:
    share = part / whole if whole else 0.0
    message = f"{portion(part, whole, what, said)}: {share:.2%}, allowed {limit:.2%}"
    return Verdict(gate=gate, passed=share <= limit, found=share, limit=limit, message=message)
