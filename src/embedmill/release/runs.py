"""Runs in the store: which are open, and how far they are."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from embedmill.errors import ObjectMissing, ReleaseCorrupt, RunClosed, RunDamaged, StoreError
from embedmill.release.layout import PLAN, TERMINAL, DocumentT, Home
from embedmill.release.log import read_history
from embedmill.spec.documents import CommitRecord, Plan, Terminal
from embedmill.store import folder_names
from embedmill.store.cache import in_parallel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedmill.store import ObjectInfo


@dataclass(frozen=True)
class WorkState:
    """How far the work of a run is, in rows; `committed` counts shards.

    `busiest`: the stage that most loops say the others wait for, empty where none says it.
    """

    shards: int
    committed: int
    rows: int
    rows_committed: int
    rows_in_work: int
    busiest: str = ""

    @property
    def rows_done(self) -> int:
        """Rows that are committed or embedded by a worker just now."""
        return min(self.rows, self.rows_committed + self.rows_in_work)

    @property
    def complete(self) -> bool:
        """Whether every shard has a commit record."""
        return self.committed == self.shards


@dataclass(frozen=True)
class UnpublishedRun:
    """A run that is no release, or not yet: `open` if it can still become one."""

    name: str
    open: bool


def unpublished_runs(home: Home) -> Iterator[UnpublishedRun]:
    """Runs with a plan that were not published, newest first; of collected ones nothing is read.

    What lies below runs/ is not listed, only the runs' names: the commit records of published ones stay.
    """
    names = set(folder_names(home.store, f"{home.pipeline}/runs"))
    entries = read_history(home).entries
    published = {entry.transaction for entry in entries if entry.kind == "publish"}
    found = sorted(names - published, reverse=True)
    planned = in_parallel(home.store, lambda run: home.exists(home.run_key(run, PLAN)), found)
    for run in itertools.compress(found, planned):
        yield UnpublishedRun(run, open=not _is_closed(home, run, len(entries)))


def read_plan(home: Home, run: str) -> Plan | None:
    """A run's plan; None if planning died before its last step, or the plan was collected.

    Raises:
        RunDamaged: No version can have written it so.
        StoreError: It is damaged, or of another version; says how to get rid of the run.
    """
    try:
        return document_of(home, run, Plan, home.run_key(run, PLAN))
    except ObjectMissing:
        return None


def document_of(home: Home, run: str, kind: type[DocumentT], key: str) -> DocumentT:
    """A document below a run's folder.

    Raises:
        RunDamaged: No version can have written it so.
        StoreError: It is damaged, or of another version; says how to get rid of the run.
    """
    data = home.store.get(key)
    try:
        return kind.from_bytes(data, key)
    except StoreError as error:
        if _is_damaged(data):
            raise _damaged(home, run, error.message) from None
        hint = f"if no other version of Embedmill wrote it, {_move_away(home, run)}"
        raise StoreError(error.message, hint=hint) from None


def _damaged(home: Home, run: str, message: str) -> RunDamaged:
    """The error, with what helps: a run that was about to be published is closed by nobody."""
    terminal = terminal_of(home, run)
    if terminal is None:
        hint = "`embedmill run` closes that run, and plans anew"
    elif terminal.outcome == "abandon":
        hint = "that run is closed, and `embedmill run` plans anew"
    else:
        hint = _move_away(home, run)
    return RunDamaged(message, run=run, hint=hint)


def _move_away(home: Home, run: str) -> str:
    return f"move {home.url}/runs/{run} away: nothing that is published lies there"


def _is_damaged(data: bytes) -> bool:
    """Whether it is certain: what a newer version wrote is JSON with a schema, too."""
    try:
        values = json.loads(data)
    except ValueError:
        return True
    return not isinstance(values, dict) or "schema" not in values


def open_plans(home: Home) -> Iterator[Plan]:
    """Plans of runs that are not closed, newest first."""
    found = (read_plan(home, run.name) for run in unpublished_runs(home) if run.open)
    return (plan for plan in found if plan is not None)


def terminal_of(home: Home, run: str) -> Terminal | None:
    """How a run was closed; None while it was not."""
    try:
        return home.read(Terminal, home.run_key(run, TERMINAL))
    except ObjectMissing:
        return None


def check_open(home: Home, run: str) -> None:
    """Stop here if somebody gave the run up.

    Raises:
        RunClosed: They did.
    """
    terminal = terminal_of(home, run)
    if terminal is not None and terminal.outcome == "abandon":
        raise _closed(terminal)


def check_not_over(home: Home, run: str) -> None:
    """Stop here if the run has ended, however: what is missing of it was collected.

    Raises:
        RunClosed: It was given up, was published, or lost its number to another.
    """
    terminal = terminal_of(home, run)
    if terminal is not None:
        raise _closed(terminal)


def _closed(terminal: Terminal) -> RunClosed:
    why = f"run {terminal.run} was closed: {terminal.why}"
    return RunClosed(why, hint="run again: it makes a new plan")


def _is_closed(home: Home, run: str, entries: int) -> bool:
    """Whether nothing can come of a run any more; one that was about to take the next number can go on."""
    terminal = terminal_of(home, run)
    return terminal is not None and (terminal.number is None or terminal.number <= entries)


def commit_records(home: Home, plan: Plan, *, whole_ones: bool = False) -> Iterator[CommitRecord]:
    """The commit records that a run has by now, in order of its shards; `whole_ones` leaves out damaged ones.

    Raises:
        RunDamaged: One is damaged.
    """
    folder = home.run_key(plan.run, "commits")
    for info in sorted(home.store.list(folder), key=lambda info: info.key):
        with suppress(ObjectMissing, *([RunDamaged] if whole_ones else [])):  # missing: collected since
            yield document_of(home, plan.run, CommitRecord, info.key)


def work_state(home: Home, plan: Plan) -> WorkState:
    """Read a run's progress from the store."""
    return Watch(home, plan).look()


class Watch:
    """Reads a run's progress again and again, each time only what has changed."""

    def __init__(self, home: Home, plan: Plan) -> None:
        """Read nothing yet."""
        self._home, self._plan = home, plan
        self._events: dict[str, tuple[str, dict[str, int], str]] = {}

    def look(self) -> WorkState:
        """How far the run is now; two lists, and the events that are new."""
        home, plan = self._home, self._plan
        folder = home.run_key(plan.run, "commits")
        committed = {info.key.rsplit("/", 1)[1].removesuffix(".json") for info in home.store.list(folder)}
        done = [shard for shard in plan.shards if shard.name in committed]
        complete = len(done) == len(plan.shards)
        in_work = 0 if complete else self._rows_in_work(committed)
        busiest = Counter(stage for _, _, stage in self._events.values() if stage)
        return WorkState(
            shards=len(plan.shards),
            committed=len(done),
            rows=plan.compute,
            rows_committed=sum(shard.rows for shard in done),
            rows_in_work=in_work,
            busiest=next((stage for stage, _ in busiest.most_common(1)), ""),
        )

    def _rows_in_work(self, committed: set[str]) -> int:
        """Rows that workers report of shards that are not committed."""
        rows = 0
        for info in self._home.store.list(self._home.run_key(self._plan.run, "events")):
            with suppress(ObjectMissing, ValueError, KeyError, TypeError, AttributeError):
                rows += sum(done for shard, done in self._event(info).items() if shard not in committed)
        return rows

    def _event(self, info: ObjectInfo) -> dict[str, int]:
        """What a worker tells: how many rows are done of its shard, and of those that wait to be written."""
        etag, rows, _ = self._events.get(info.key, ("", {}, ""))
        if etag != info.etag:
            event = json.loads(self._home.store.get(info.key))
            rows = {shard: int(done) for shard, done in event.get("unwritten", {}).items()}
            if event["shard"]:
                rows[event["shard"]] = int(event["shard_done"])
            self._events[info.key] = (info.etag, rows, str(event.get("bottleneck", "")))
        return rows


class Rejections:
    """Rows of a run that could not be embedded, by its commit records; each record is read once."""

    def __init__(self, home: Home, plan: Plan) -> None:
        """Count nothing yet."""
        self._home, self._run = home, plan.run
        self._rows: dict[str, int] = {}
        self._committed = 0

    def count(self, committed: int) -> int:
        """Rows of all shards that are committed, of which there are so many by now."""
        if committed != self._committed:
            self._look()
            self._committed = committed
        return sum(self._rows.values())

    def _look(self) -> None:
        for info in self._home.store.list(self._home.run_key(self._run, "rejected")):
            shard = info.key.rsplit("/", 1)[1].split(".")[0]
            if shard not in self._rows:
                with suppress(ObjectMissing):  # written, but not committed yet
                    key = self._home.run_key(self._run, "commits", f"{shard}.json")
                    record = document_of(self._home, self._run, CommitRecord, key)
                    self._rows[shard] = record.rejected.rows or 0 if record.rejected else 0


def abandon(home: Home, run: str, why: str) -> Terminal:
    """Close a run that will not be published; returns how it was closed, which may have been before."""
    terminal = Terminal(run=run, outcome="abandon", number=None, why=why, created=home.now())
    return home.create(home.run_key(run, TERMINAL), terminal)


def close_damaged(home: Home, error: RunDamaged) -> None:
    """Close the run that has the damaged document: it can never be published.

    Raises:
        RunDamaged: It was about to be published, so that it cannot be closed; says how to get rid of it.
    """
    if abandon(home, error.run, error.message).outcome != "abandon":
        raise _damaged(home, error.run, error.message) from error


@contextmanager
def closed_if_damaged(home: Home, run: str) -> Iterator[None]:
    """Close the run whose documents are read here, if one turns out to be damaged: it can never be published.

    Raises:
        RunClosed: One is. Whoever runs again plans anew, and takes over what is whole.
        RunDamaged: It was about to be published, or the document is another run's.
    """
    try:
        yield
    except RunDamaged as error:
        if error.run != run:
            raise
        close_damaged(home, error)
        raise RunClosed(
            f"run {run} was closed: {error.message}", hint="run again: it makes a new plan"
        ) from error


@contextmanager
def closed_if_corrupt(home: Home, run: str) -> Iterator[None]:
    """Close the run whose candidate is read here, if that turns out to be damaged: it can never be published.

    Raises:
        ReleaseCorrupt: It is. Where nothing else became of the run meanwhile, the hint is to run again.
    """
    try:
        yield
    except ReleaseCorrupt as error:
        if abandon(home, run, error.message).outcome != "abandon":
            raise
        raise ReleaseCorrupt(error.message, hint="run again: it plans a new run") from error
