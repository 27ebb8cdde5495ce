"""What lies in a pipeline's folder, name by name, and what each is: for whoever tidies up.

A run has its name in `runs/` and in `releases/`. What it is follows from objects that are created once: its
log entries, its terminal, its plan. So a verdict that allows deleting (retired, closed, published) can never
become wrong, however old the look. Listings only say what there is to delete; what they miss is found by the
next look.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from embedmill.errors import ObjectMissing, StoreError
from embedmill.release.layout import CONTENT, GATES, MANIFEST, PLAN, TERMINAL, Home, named_at, relative
from embedmill.release.log import History, whole_history
from embedmill.spec.documents import CommitRecord, Content, Gates, Plan, Terminal
from embedmill.store import join_key

if TYPE_CHECKING:
    from embedmill.store import ObjectInfo

DAY_S = 86_400.0
HOPELESS = "another release is live than the one that it was planned on"


class State(StrEnum):
    """What the objects under one name are."""

    PUBLISHED = "published"
    RETIRED = "retired"
    CLOSED = "closed"
    """Abandoned, or its log number went to another: never published."""
    SALVAGEABLE = "salvageable"
    """Closed not long ago: the next plan takes over what it has finished."""
    OPEN = "open"
    PUBLISHING = "publishing"
    """Closed for the next log number, whose entry is not there yet."""
    PLANNING = "planning"
    """Files without a plan: of a planner that still works, or died."""
    COPY = "copy"
    """A release, or a part of one, that was copied here and is not in the log."""
    FOREIGN = "foreign"


@dataclass(frozen=True)
class Folder:
    """All objects under one name, and what they are. `why` says it in words; `base` where it is a run."""

    name: str
    state: State
    why: str = ""
    stale: bool = False
    base: str | None = None
    run_objects: tuple[ObjectInfo, ...] = ()
    release_objects: tuple[ObjectInfo, ...] = ()


@dataclass(frozen=True)
class Survey:
    """A log, and the folder of every name that it or a listing knows, by name."""

    history: History
    folders: Mapping[str, Folder]

    def of(self, *states: State) -> list[Folder]:
        """The folders in these states, by name."""
        return [folder for folder in self.folders.values() if folder.state in states]

    def changed(self, name: str, state: State, why: str) -> Survey:
        """The same, where something has become of one of them since."""
        folder = replace(self.folders[name], state=state, why=why, stale=False)
        return replace(self, folders={**self.folders, name: folder})


def survey(home: Home, now: datetime, patience_s: float) -> Survey:
    """Look at everything once.

    Open runs in which nothing has changed for `patience_s` before `now` are `stale`. What counts are the
    times in the plan, commit records, candidate, verdicts and terminal; of a planner that wrote no plan yet,
    the one in its name. A run with a candidate that only waits for the hold to be lifted is never stale.
    """
    runs, releases = _by_name(home, "runs"), _by_name(home, "releases")
    history = whole_history(home)
    published = {entry.release for entry in history.entries if entry.kind == "publish"}
    look = _Look(home, history, now, patience_s)
    folders = {}
    for name in sorted({*runs, *releases, *published}):
        run, release = tuple(runs.get(name, ())), tuple(releases.get(name, ()))
        folders[name] = replace(look.at(name, run, release), run_objects=run, release_objects=release)
    return Survey(history, folders)


def _by_name(home: Home, folder: str) -> dict[str, list[ObjectInfo]]:
    found: dict[str, list[ObjectInfo]] = defaultdict(list)
    top = join_key(home.pipeline, folder)
    for info in home.store.list(top):
        found[relative(info.key, top).split("/", 1)[0]].append(info)
    return found


@dataclass(frozen=True)
class _Look:
    home: Home
    history: History
    now: datetime
    patience_s: float

    def at(self, name: str, run: Sequence[ObjectInfo], release: Sequence[ObjectInfo]) -> Folder:
        """What this name is; one whose documents cannot be read, such as a newer version's, is left alone."""
        try:
            return self._at(name, run, release)
        except StoreError as error:
            if type(error) is not StoreError:
                raise
            return Folder(name, State.FOREIGN, error.message)

    def _at(self, name: str, run: Sequence[ObjectInfo], release: Sequence[ObjectInfo]) -> Folder:
        """By the log where it is in it, else by its terminal, else by its plan."""
        retired, published = self.history.retired.get(name), self.history.publication_of(name)
        if retired is not None:
            return Folder(name, State.RETIRED, f"retired by log entry {retired.number}")
        if published is not None:
            return Folder(name, State.PUBLISHED, f"published by log entry {published.number}")
        if not release and [info.key for info in run] == [self.home.run_key(name, TERMINAL)]:
            return Folder(name, State.CLOSED, "closed")  # and swept before: not worth reading
        with suppress(ObjectMissing):
            return self._ended(name, self.home.read(Terminal, self.home.run_key(name, TERMINAL)))
        with suppress(ObjectMissing):
            return self._open(self.home.read(Plan, self.home.run_key(name, PLAN)))
        return self._without_plan(name)

    def _ended(self, name: str, terminal: Terminal) -> Folder:
        if terminal.number is None:
            return self._abandoned(name, terminal)
        if terminal.number <= len(self.history.entries):
            return Folder(name, State.CLOSED, f"log entry {terminal.number} went to another")
        why = f"is about to take log entry {terminal.number}; `embedmill resume` goes on"
        return Folder(name, State.PUBLISHING, why, stale=self._are_old(iter([terminal.created])))

    def _abandoned(self, name: str, terminal: Terminal) -> Folder:
        """Its vectors are worth keeping until a release was published since, or nobody came for them."""
        taken = any(e.kind == "publish" and e.created >= terminal.created for e in self.history.entries)
        if taken or self._are_old(iter([terminal.created])):
            return Folder(name, State.CLOSED, terminal.why)
        why = f"closed: {terminal.why}; the next run takes over what it has finished"
        return Folder(name, State.SALVAGEABLE, why)

    def _open(self, plan: Plan) -> Folder:
        base = plan.base.release if plan.base else None
        if plan.base != self.history.live:
            return Folder(plan.run, State.OPEN, HOPELESS, stale=True, base=base)
        key = self.home.release_key(plan.run, CONTENT)
        if self.history.hold is not None and plan.base == self.history.live and self.home.exists(key):
            return Folder(plan.run, State.OPEN, "waits for the hold to be lifted", base=base)
        stale = self._are_old(self._times(plan))
        return Folder(plan.run, State.OPEN, f"open since {plan.created}", stale=stale, base=base)

    def _without_plan(self, name: str) -> Folder:
        """No planner writes a candidate or a manifest before its plan, and a copy begins with the former."""
        if any(self.home.exists(self.home.release_key(name, file)) for file in (CONTENT, MANIFEST)):
            return Folder(name, State.COPY, "copied here, not in the log")
        started = named_at(name)
        if started is None:
            return Folder(name, State.FOREIGN, "is not the name of a run")
        stale = self._are_old(iter([started.isoformat()]))
        return Folder(name, State.PLANNING, f"planning since {started:%Y-%m-%dT%H:%M:%SZ}", stale=stale)

    def _are_old(self, times: Iterator[str]) -> bool:
        """Whether all are; the first that is not ends the reading."""
        ages = ((self.now - datetime.fromisoformat(time)).total_seconds() for time in times)
        return all(age > self.patience_s for age in ages)

    def _times(self, plan: Plan) -> Iterator[str]:
        """When something happened in an open run; what is read last is what costs most."""
        yield plan.created
        with suppress(ObjectMissing):
            yield self.home.read(Gates, self.home.run_key(plan.run, GATES)).created
        with suppress(ObjectMissing):
            yield self.home.read(Content, self.home.release_key(plan.run, CONTENT)).created
        for info in self.home.store.list(self.home.run_key(plan.run, "commits")):
            with suppress(ObjectMissing):
                yield self.home.read(CommitRecord, info.key).created
