"""Garbage collection: retire releases that nobody needs, close runs that nobody goes on with, then delete.

Three steps, each safe beside live runs, rollbacks, pins and other collectors, and finished by the next call
when this one dies anywhere:

1. **Abandon** runs that are stale, or whose base is not live any more, by creating their terminal. Age only
   decides when that is tried; that it was created, or is there and says `abandon`, decides that the run can
   never publish. A planner that was merely slow then writes a plan into a closed run: nobody resumes it, and
   publishing it is refused.
2. **Retire** releases that are not live, not pinned, not among the newest, and no open run's base: one log
   entry each, under the number after the history that was judged. If another writer takes that number, all
   is judged anew, for it may have been a rollback or a pin. A run that was planned on the release meanwhile
   does no harm: it can publish only while its base is live, and a retired release never is again.
3. **Delete** what cannot be named any more: retired releases; releases of closed runs that were not
   published; all of a closed run but `terminal.json`, and of a published one but its commit records too; and
   in published releases what their manifest does not name, such as files of attempts that lost. Every time,
   so that late writes of processes long given up are found too. Each verdict rests on an object that was
   created once and is never deleted, so it stays right.

A release goes MANIFEST.json first. From then on the folder is no release for anybody who opens it, rather
than a damaged one; who had it open keeps the files that it has mapped on a local disk, and on other stores
its download. By name it is refused as soon as its entry is in the log. A run goes plan.json first, so that a
late worker finds no plan, rather than shards without commit records. No log entry is deleted or rewritten.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

from embedmill.errors import ObjectMissing, PublishLost, SpecError, StoreDenied, StoreError
from embedmill.release.layout import CONTENT, MANIFEST, PLAN, TERMINAL, Home
from embedmill.release.log import History, append
from embedmill.release.runs import abandon
from embedmill.release.survey import DAY_S, HOPELESS, Folder, State, Survey, survey
from embedmill.spec.documents import Manifest, ReleaseName
from embedmill.spec.upkeep import CollectReport, Deletion, KeptRelease, NamedRun
from embedmill.store import Leftovers, Unfinished, join_key
from embedmill.types import Progress

if TYPE_CHECKING:
    from embedmill.spec.documents import LogEntry
    from embedmill.store import ObjectInfo

FIRST = {MANIFEST: 0, CONTENT: 1, PLAN: 2}
"""Whose absence tells that the rest is not to be used: deleted before it, in this order."""

LOST_MOST = 20
"""So often another writer may take the log number; then this one gives way."""


@dataclass(frozen=True)
class Policy:
    """What stays: the newest `keep` releases, and runs and unfinished objects of less than these ages.

    The live release, pinned ones and bases of open runs stay whatever the policy says.
    """

    keep: int = 3
    abandon_after_s: float = 7 * DAY_S
    unfinished_after_s: float = DAY_S

    def __post_init__(self) -> None:
        """Check the values."""
        if self.keep < 1 or self.abandon_after_s < 0 or self.unfinished_after_s < 0:
            raise SpecError("at least the newest release is kept, and no age is below 0")


@dataclass(frozen=True)
class Garbage:
    """Objects that go, in order, and why."""

    deletion: Deletion
    objects: tuple[ObjectInfo, ...]


def collect(
    home: Home,
    policy: Policy | None = None,
    *,
    clock: Callable[[], datetime] | None = None,
    dry_run: bool = False,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> CollectReport:
    """Tidy a pipeline's folder up, or with `dry_run` say what that would do.

    Args:
        home: The pipeline's folder.
        policy: What stays.
        clock: Tells the time in UTC, the home's if None; ages are all that it decides.
        dry_run: Write and delete nothing.
        on_progress: Hears of objects as they are deleted.

    Raises:
        PublishLost: Others kept taking the log's next number.
        LogGap: The log lacks an entry: nothing is closed, retired or deleted.
        StoreError: The store failed. What was done is right; the next call goes on.
    """
    if not dry_run:
        home.check_fit()
    return _Collector(home, policy or Policy(), clock or home.world.now, dry_run, on_progress).collect()


def reasons_to_keep(seen: Survey, keep: int) -> dict[str, list[str]]:
    """Every published release that must stay, with each reason; `keep` newest ones are among them."""
    history, reasons = seen.history, defaultdict[str, list[str]](list)
    if history.live is not None:
        reasons[history.live.release].append("live")
    for release, entry in history.pinned.items():
        note = f": {entry.note}" if entry.note else ""
        reasons[release].append(f"pinned by log entry {entry.number}{note}")
    for kept in history.published()[-keep:]:
        reasons[kept.release].append("the newest" if keep == 1 else f"among the newest {keep}")
    for run in seen.of(State.OPEN):
        if run.base is not None:
            reasons[run.base].append(f"base of the open run {run.name}")
    return reasons


@dataclass
class _Collector:
    home: Home
    policy: Policy
    clock: Callable[[], datetime]
    dry_run: bool
    on_progress: Callable[[Progress], None]
    retired: list[ReleaseName] = field(default_factory=list)
    abandoned: list[NamedRun] = field(default_factory=list)
    postponed: str = ""

    def collect(self) -> CollectReport:
        seen = self._retire(self._abandon(self._look()))
        garbage = [part for folder in seen.folders.values() for part in self._garbage(seen.history, folder)]
        if not self.dry_run:
            self._delete([info.key for part in garbage for info in part.objects])
        return self._report(seen, [part.deletion for part in garbage], self._sweep_unfinished())

    def _look(self) -> Survey:
        return survey(self.home, self.clock(), self.policy.abandon_after_s)

    def _abandon(self, seen: Survey) -> Survey:
        """Close what is stale. Who finds it closed for publishing leaves it.

        What a run has finished that others were faster than is still worth taking over.
        """
        long = f"nothing has changed in it for {self.policy.abandon_after_s / DAY_S:g} days"
        for folder in seen.of(State.OPEN, State.PLANNING):
            if not folder.stale:
                continue
            hopeless = folder.why == HOPELESS
            why = HOPELESS if hopeless else long
            if not self.dry_run and abandon(self.home, folder.name, why).outcome != "abandon":
                seen = seen.changed(folder.name, State.PUBLISHING, "is being published")
                continue
            self.abandoned.append(NamedRun(run=folder.name, why=why))
            seen = seen.changed(folder.name, State.SALVAGEABLE if hopeless else State.CLOSED, why)
        return seen

    def _retire(self, seen: Survey) -> Survey:
        """Retire one release after the other, each judged by the history that its entry follows."""
        lost = 0
        while (name := self._next_to_retire(seen)) is not None:
            self.postponed = self._publishing(seen)
            if self.postponed:
                break
            try:
                seen = self._retire_one(seen, name)
            except PublishLost:
                lost += 1
                if lost == LOST_MOST:
                    raise
                seen = self._look()
        return seen

    def _next_to_retire(self, seen: Survey) -> ReleaseName | None:
        """The oldest release that nothing keeps."""
        kept = reasons_to_keep(seen, self.policy.keep)
        return next((name for name in _published(seen) if name.release not in kept), None)

    def _publishing(self, seen: Survey) -> str:
        """Why now is no time to take a log number: a run that just closed for it would lose all its work.

        Looked up each time, so that hardly a moment is left in between. One that died there and was not
        resumed for as long as runs are waited for has lost its right to the number.
        """
        for run in seen.of(State.PUBLISHING):
            if not run.stale:
                return f"run {run.name} {run.why}"
        for run in seen.of(State.OPEN):
            if not self.dry_run and self.home.exists(self.home.run_key(run.name, TERMINAL)):
                return f"run {run.name} has just ended"
        return ""

    def _retire_one(self, seen: Survey, name: ReleaseName) -> Survey:
        history = seen.history
        if not self.dry_run:
            entry = self._append(history, name)
            history = History((*history.entries, entry))
        self.retired.append(name)
        return replace(seen.changed(name.release, State.RETIRED, "retired"), history=history)

    def _append(self, history: History, name: ReleaseName) -> LogEntry:
        """Two collectors that retire one release at once mean one thing: either entry is both's."""
        note = f"collected: not among the newest {self.policy.keep}"
        return append(
            self.home, history, "retire", name.release, transaction=f"retire-{name.release}", note=note
        )

    def _garbage(self, history: History, folder: Folder) -> Iterator[Garbage]:
        """What of a folder can never be needed again."""
        if folder.state in {State.RETIRED, State.CLOSED}:
            yield from _garbage("release", folder, folder.release_objects)
        if folder.state is State.PUBLISHED:
            yield from _garbage(
                "strays", folder, self._strays(history, folder), "; not named by its manifest"
            )
        if folder.state in {State.RETIRED, State.CLOSED, State.PUBLISHED}:
            settled = "; its release does not need it" if folder.state is State.PUBLISHED else ""
            yield from _garbage("run", folder, self._spent(folder), settled)

    def _spent(self, folder: Folder) -> list[ObjectInfo]:
        """What of a run's folder nobody needs any more.

        The commit records of a published run stay: a worker whose create got no answer may ask again years
        later, and would take the files that the release names for those of an attempt that lost.
        """
        kept = self.home.run_key(folder.name, TERMINAL)
        commits = self.home.run_key(folder.name, "commits") + "/"
        settled = folder.state is State.PUBLISHED
        return [
            info
            for info in folder.run_objects
            if info.key != kept and not (settled and info.key.startswith(commits))
        ]

    def _strays(self, history: History, folder: Folder) -> list[ObjectInfo]:
        """Objects of a published release that its manifest, the one in the log, does not name."""
        published, prefix = history.publication_of(folder.name), self.home.release_key(folder.name)
        try:
            manifest = self.home.read(Manifest, join_key(prefix, MANIFEST))
        except StoreError as error:
            if type(error) in {StoreError, ObjectMissing}:  # damaged: `release verify` says so
                return []
            raise
        digests = {manifest.digest, manifest.sealed().digest, published.manifest_digest if published else ""}
        if len(digests) > 1:
            return []
        named = {join_key(prefix, entry.path) for entry in manifest.files} | {join_key(prefix, MANIFEST)}
        return [info for info in folder.release_objects if info.key not in named]

    def _delete(self, keys: Sequence[str]) -> None:
        for done, key in enumerate(keys):
            self.on_progress(Progress("delete", done, len(keys), "objects"))
            self.home.store.delete(key)
        if keys:
            self.on_progress(Progress("delete", len(keys), len(keys), "objects"))

    def _sweep_unfinished(self) -> tuple[Leftovers, str]:
        """What was found, or why nobody looked: a collector may lack a right that only this needs."""
        store = self.home.store
        if not isinstance(store, Unfinished):
            return Leftovers(0, 0), ""
        try:
            return store.sweep_unfinished(self.policy.unfinished_after_s, dry_run=self.dry_run), ""
        except StoreError as error:
            if type(error) not in {StoreDenied, StoreError}:
                raise
            return Leftovers(0, 0), str(error)

    def _report(self, seen: Survey, deleted: list[Deletion], swept: tuple[Leftovers, str]) -> CollectReport:
        reasons = reasons_to_keep(seen, self.policy.keep)
        unfinished, unfinished_left = swept
        kept = (
            KeptRelease(release=name.release, number=name.number, why=tuple(reasons.get(name.release, ())))
            for name in _published(seen)
        )
        gone = {State.PUBLISHED, State.RETIRED, State.CLOSED}
        closed = {run.run for run in self.abandoned}
        left = [folder for folder in seen.of(*(set(State) - gone)) if folder.name not in closed]
        return CollectReport(
            dry_run=self.dry_run,
            kept=tuple(kept),
            retired=tuple(self.retired),
            abandoned=tuple(self.abandoned),
            left=tuple(NamedRun(run=folder.name, why=folder.why) for folder in left),
            postponed=self.postponed,
            deleted=tuple(deleted),
            objects=sum(each.objects for each in deleted),
            size_bytes=sum(each.size_bytes for each in deleted),
            unfinished_objects=unfinished.objects,
            unfinished_bytes=unfinished.size_bytes,
            unfinished_left=unfinished_left,
        )


def _published(seen: Survey) -> list[ReleaseName]:
    """Releases that are not retired, by number."""
    names = {folder.name for folder in seen.of(State.PUBLISHED)}
    return [name for name in seen.history.published() if name.release in names]


def _garbage(
    what: str, folder: Folder, objects: Iterable[ObjectInfo], because: str = ""
) -> Iterator[Garbage]:
    ordered = sorted(objects, key=lambda info: (FIRST.get(info.key.split("/", 3)[-1], len(FIRST)), info.key))
    if ordered:
        deletion = Deletion.model_validate(
            {
                "what": what,
                "name": folder.name,
                "why": folder.why + because,
                "objects": len(ordered),
                "size_bytes": sum(info.size_bytes for info in ordered),
            }
        )
        yield Garbage(deletion, tuple(ordered))
