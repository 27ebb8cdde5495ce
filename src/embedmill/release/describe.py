"""What is in a pipeline's folder, as documents for people and programs; read only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedmill.errors import EmbedmillError, ObjectMissing, ReleaseMissing, StoreError
from embedmill.release.assemble import read_candidate
from embedmill.release.layout import CONTENT, GATES, MANIFEST, Home
from embedmill.release.log import History, live_release, read_history
from embedmill.release.quarantined import quarantined_of
from embedmill.release.runs import open_plans, work_state
from embedmill.release.shares import loop_states, worker_shares
from embedmill.release.verdicts import verdicts_on
from embedmill.spec.documents import Content, Gates, Manifest
from embedmill.spec.quarantine import QuarantineReport
from embedmill.spec.reports import ReleaseReport, RunState, SegmentReport
from embedmill.spec.upkeep import ListedRelease

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from embedmill.spec.documents import Plan, ReleaseName


def list_releases(home: Home) -> list[ListedRelease]:
    """Every release that is not retired, oldest first; `created`: when it was published.

    One whose documents are gone or damaged is listed, too: whoever looks for another needs to see.
    """
    history = read_history(home)
    created = {entry.number: entry.created for entry in history.entries}
    listed = []
    for found in history.published():
        items, trouble = items_of(home, found.release)
        if trouble and found.release in read_history(home).retired:  # meanwhile
            continue
        listed.append(
            ListedRelease(
                release=found.release,
                number=found.number,
                items=items,
                created=created[found.number],
                live=found == history.live,
                pinned=found.release in history.pinned,
                hold=history.hold is not None and found == history.live,
                trouble=trouble,
            )
        )
    return listed


def items_of(home: Home, release: str) -> tuple[int | None, str]:
    """How many items a release has, and what is wrong with it, as far as a look at its documents tells."""
    key = home.release_key(release, CONTENT)
    try:
        data = home.store.get(key)
    except ObjectMissing:
        return None, f"has no {CONTENT}"
    try:
        content = Content.from_bytes(data, key)
    except StoreError:
        if other := Content.other_version(data):
            return None, f"this version of Embedmill cannot read its {CONTENT} ({other})"
        return None, f"its {CONTENT} is damaged"
    there = home.exists(home.release_key(release, MANIFEST))
    return item_count(content), "" if there else f"has no {MANIFEST}"


def model_of(home: Home, release: str) -> str:
    """The model of a published release, as its pipeline named it."""
    return home.read(Content, home.release_key(release, CONTENT)).pipeline.model


def item_count(content: Content) -> int:
    """Items in a release, those with an empty input too."""
    return sum(entry.rows or 0 for entry in content.items)


def find_release(home: Home, history: History, name: str | None) -> ReleaseName:
    """A published release by its name or number; the live one for None.

    Raises:
        ReleaseMissing: There is none.
    """
    return live_release(home, history.entries) if name is None else history.find(name)


def pair_to_compare(home: Home, before: str | None, after: str | None) -> tuple[ReleaseName, ReleaseName]:
    """Two releases by name or number: the live one for an absent `after`; for `before` what it replaced.

    That is what was live when it was published, on which a run built it: after a rollback an older one than
    its neighbour. If that is retired, or nothing was live, it is the newest earlier one that there is.

    Raises:
        ReleaseMissing: There is none of that name, or none before.
    """
    history = read_history(home)
    newer = find_release(home, history, after)
    if before is not None:
        return history.find(before), newer
    there = history.published()
    replaced = History(history.entries[: newer.number - 1]).live
    if replaced in there:
        return replaced, newer
    earlier = [found for found in there if found.number < newer.number]
    if not earlier:
        raise ReleaseMissing(
            f"no release comes before {newer.release} (number {newer.number})",
            hint="the next run publishes one to compare",
        )
    return earlier[-1], newer


def describe_release(home: Home, name: str | None, *, quarantined: int) -> ReleaseReport:
    """All that a release's documents say, and the first `quarantined` items of its quarantine.

    Raises:
        ReleaseMissing: There is none.
    """
    history = read_history(home)
    found = find_release(home, history, name)
    content = home.read(Content, home.release_key(found.release, CONTENT))
    reasons, items = quarantined_of(home, content, most=quarantined)
    copied = ("base", "counts", "embedded", "reused", "computed", "dimension")
    digests = ("package_digest", "encoder_digest", "content_digest")
    return ReleaseReport(
        release=found.release,
        number=found.number,
        live=found == history.live,
        url=f"{home.url}/releases/{found.release}",
        created=history.entries[found.number - 1].created,
        items=item_count(content),
        **{field: getattr(content, field) for field in (*copied, *digests)},
        manifest_digest=home.read(Manifest, home.release_key(found.release, MANIFEST)).digest,
        segments=tuple(
            SegmentReport(
                name=segment.name,
                rows=segment.rows,
                live=segment.live,
                index="hnsw" if segment.index else "exact",
            )
            for segment in content.segments
        ),
        gates=home.read(Gates, home.release_key(found.release, GATES)),
        quarantine=reasons,
        quarantined=items,
    )


def describe_quarantine(home: Home, run: str, *, most: int) -> QuarantineReport:
    """What a run's candidate lacks, published or not, and the first items of it.

    Raises:
        RunError: It has no candidate yet.
    """
    content = read_candidate(home, run)
    reasons, items = quarantined_of(home, content, most=most)
    return QuarantineReport(
        run=run,
        created=content.created,
        total=content.counts.total,
        quarantine=reasons,
        quarantined=items,
    )


def run_states(home: Home, outdated: Callable[[Plan], str]) -> Iterator[RunState]:
    """Open runs, newest first, and how far they are; `outdated` says why a plan is not gone on with."""
    newer = False
    for plan in open_plans(home):
        goes_on, why = _fits(plan, outdated)
        if goes_on and newer:
            goes_on, why = False, "a newer one fits, too"
        newer = newer or goes_on is True
        work = work_state(home, plan)
        yield RunState(
            run=plan.run,
            url=f"{home.url}/runs/{plan.run}",
            created=plan.created,
            base=plan.base,
            shards=work.shards,
            shards_done=work.committed,
            vectors=work.rows,
            vectors_done=work.rows_done,
            goes_on=goes_on,
            why=why,
            shares=worker_shares(home, plan),
            loops=loop_states(home, plan),
            calibration=plan.calibration,
            stopped=_stopped(home, plan.run),
        )


def _stopped(home: Home, run: str) -> str:
    """What stands against a run's candidate since its last check."""
    gates = verdicts_on(home, run)
    if gates is None or gates.passed:
        return ""
    failed = [verdict for verdict in gates.verdicts if not (verdict.passed or verdict.accepted)]
    said = "; ".join(f"{verdict.gate}: {verdict.message}" for verdict in failed)
    return f"the candidate of {read_candidate(home, run).created} was stopped by {said}"


def _fits(plan: Plan, outdated: Callable[[Plan], str]) -> tuple[bool | None, str]:
    """Whether `run` goes on with it, and why not; None where what that depends on is not to be found."""
    try:
        why = outdated(plan)
    except EmbedmillError as error:
        return None, error.message
    return not why, why
