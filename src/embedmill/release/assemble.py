"""From commit records to a candidate: the `index` stage.

Streams the planned items, drops those whose vector could not be made, checks that every other one has
exactly one vector, and writes CONTENT.json, which decides: whoever creates it first made the candidate.
"""

from __future__ import annotations

import hashlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embedmill.catalog import id_messages
from embedmill.cores import cores
from embedmill.digest import digests_to_arrow
from embedmill.errors import AccountingError, ObjectMissing, ReleaseCorrupt, RunError
from embedmill.hashing import Hasher
from embedmill.release.counting import Lost
from embedmill.release.goldens import make_goldens
from embedmill.release.integrity import content_files
from embedmill.release.item_keys import ItemKeys
from embedmill.release.items import (
    FINGERPRINT,
    ID,
    OWN_COLUMNS,
    is_embedded,
    item_fingerprints,
    read_part,
    write_items,
)
from embedmill.release.joining import JoinedPart, join_part
from embedmill.release.keys import TableKeys
from embedmill.release.layout import CONTENT, Home
from embedmill.release.previous import PreviousPrints
from embedmill.release.quarantine import QuarantineWriter
from embedmill.release.refusals import Refusal, refusals_of
from embedmill.release.runs import abandon, check_not_over, check_open
from embedmill.release.segments import (
    Candidate,
    build_indexes,
    compact,
    gather,
    needs_compaction,
    read_commits,
)
from embedmill.release.vectors import LiveVectors
from embedmill.spec.documents import Content, FileEntry, Plan, distinct
from embedmill.store import join_key
from embedmill.store.cache import copy_all
from embedmill.store.scratch import scratch_folder
from embedmill.types import FETCH_REASONS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from embedmill.release.item_keys import KnownKeys
    from embedmill.release.reader import Release
    from embedmill.release.vectors import VectorTable
    from embedmill.spec.documents import CommitRecord, Counts
    from embedmill.types import Digests, Mask


@dataclass
class Tally:
    """Where every item went."""

    embedded: int = 0
    reused: int = 0
    empty: int = 0
    quarantined: int = 0
    kept: int = 0
    content: hashlib._Hash = field(default_factory=hashlib.sha256)


def assemble(
    home: Home,
    plan: Plan,
    base: Release | None,
    on_step: Callable[[str], None],
    known: KnownKeys | None = None,
) -> Content:
    """Make the run's candidate, or read the one that was made before.

    `known` is what the plan has left of its items, if it was made in this process.

    Raises:
        ShardsMissing: Work is not done.
        RunClosed: Somebody gave the run up.
        ReleaseCorrupt: A file of the run is gone or damaged.
        AccountingError: An item has no vector and no reason. After either, the run is closed: it can never
            be finished.
    """
    key = home.release_key(plan.run, CONTENT)
    if home.exists(key):
        return home.read(Content, key)
    check_open(home, plan.run)
    commits = read_commits(home, plan)
    try:
        content = _assembled(home, plan, base, commits, on_step, known or {})
    except (AccountingError, ReleaseCorrupt) as error:
        if home.exists(key):  # another was faster, and has swept what it does not name
            return home.read(Content, key)
        abandon(home, plan.run, error.message)
        raise type(error)(error.message, hint="run again: it plans a new run") from error
    _sweep(home, content)
    return content


def read_candidate(home: Home, run: str) -> Content:
    """What the run's `index` stage made.

    Raises:
        RunClosed: The run has ended, and it was collected.
        RunError: There is none yet.
    """
    try:
        return home.read(Content, home.release_key(run, CONTENT))
    except ObjectMissing:
        check_not_over(home, run)
        hint = "`embedmill index` makes it"
        raise RunError(f"run {run}: there is no candidate yet", hint=hint) from None


def _assembled(
    home: Home,
    plan: Plan,
    base: Release | None,
    commits: list[CommitRecord],
    on_step: Callable[[str], None],
    known: KnownKeys,
) -> Content:
    with scratch_folder() as scratch:
        on_step("carry segments")
        candidate = gather(home, plan, base.content if base else None, commits)
        on_step("join items and vectors")
        items = _Items(home, plan, candidate, refusals_of(home, commits), base, known, scratch)
        items.write()
        candidate = candidate.with_live(items.live)
        compacting = needs_compaction(candidate.segments, plan.pipeline.compact_above)
        vectors = LiveVectors(items.table, items.live)
        if compacting:
            on_step("compact segments")
            candidate = compact(candidate, items.table, items.live, scratch)
            table = candidate.table()
            vectors = LiveVectors(table, np.ones(len(table), dtype=np.bool_))
        on_step("build indexes")
        candidate = build_indexes(candidate, plan.pipeline, plan.dimension, scratch)
        on_step("keep goldens")
        goldens = make_goldens(home, plan, candidate, vectors, base, commits, scratch)
        content = _content(plan, candidate, items, commits, goldens, compacted=compacting)
        return home.create(home.release_key(plan.run, CONTENT), content)


class _Items:
    """Writes the release's item files and its quarantine."""

    def __init__(
        self,
        home: Home,
        plan: Plan,
        candidate: Candidate,
        rejected: dict[bytes, Refusal],
        base: Release | None,
        known: KnownKeys,
        scratch: Path,
    ) -> None:
        self.home, self.plan, self.rejected, self.scratch = home, plan, rejected, scratch
        self.known = known
        lost = [each for each, why in rejected.items() if why.reason in FETCH_REASONS]
        keeps = plan.pipeline.catalog.fetch.on_error == "keep_previous"
        self.previous = PreviousPrints(base, lost) if keeps and lost else None
        self.prefix = home.release_key(plan.run)
        self.table: VectorTable = candidate.table(base)
        self.keys = TableKeys(self.table, scratch / "keys")
        self.live: Mask = np.zeros(len(self.table), dtype=np.bool_)
        own = [segment.rows for segment in candidate.segments if segment.name == plan.run]
        self.first_own = len(self.table) - sum(own)
        self.attempt = home.new_attempt()
        self.tally, self.lost, self.base = Tally(), Lost(), base
        self.entries: list[FileEntry] = []
        self.unchanged: list[tuple[str, str]] = []
        self.tally.content.update(plan.encoder_digest.encode())

    def write(self) -> None:
        file = self.scratch / "quarantine.parquet"
        with QuarantineWriter(file) as quarantine:
            quarantine.copy(
                pq.read_table(
                    self.home.verified(self.home.key(self.plan.quarantine.path), self.plan.quarantine)
                )
            )
            self._write_parts(quarantine)
        self.tally.quarantined = quarantine.rows
        key = join_key(self.prefix, "quarantine", f"items.{self.attempt}.parquet")
        self.quarantine = self.home.keep(key, file, relative_to=self.prefix, rows=quarantine.rows)
        self._account()

    def _write_parts(self, quarantine: QuarantineWriter) -> None:
        """All parts in order, while the next ones are joined in threads, which leave the store alone."""
        with Hasher() as hasher, ThreadPoolExecutor(cores(), "join") as threads:
            begun: deque[tuple[int, Future[JoinedPart]]] = deque()
            for number, entry in enumerate(self.plan.item_parts):
                begun.append((number, threads.submit(self._join, self._keys(entry, hasher))))
                while len(begun) > cores():
                    self._write_part(*begun.popleft(), quarantine)
            while begun:
                self._write_part(*begun.popleft(), quarantine)
        copy_all(self.home.store, self.unchanged)

    def _keys(self, entry: FileEntry, hasher: Hasher) -> Callable[[], ItemKeys]:
        """What the plan has left of a part; else it is read, and its ids are digested again.

        In the first case sealing is what looks at the bytes, unless they are read for another file.
        """
        left, key = self.known.get(entry.sha256), self.home.key(entry.path)
        if left is None:
            part = read_part(self.home.verified(key, entry), OWN_COLUMNS)
            ids = hasher.submit(*id_messages(part.column(ID)))
            return lambda: ItemKeys(ids(), item_fingerprints(part), is_embedded(part))
        if not self.home.exists(key):
            raise ReleaseCorrupt(f"{key}: is missing")
        return lambda: left

    def _join(self, keys: Callable[[], ItemKeys]) -> JoinedPart:
        return join_part(keys(), self.keys, self.previous)

    def _write_part(self, number: int, joining: Future[JoinedPart], quarantine: QuarantineWriter) -> None:
        """Note a joined part; all of its columns are read only where it is not kept as it was planned."""
        joined, entry = joining.result(), self.plan.item_parts[number]
        key = join_key(self.prefix, "items", f"part-{number:05d}.{self.attempt}.parquet")
        self._count(joined)
        if joined.kept.all() and not joined.replaced:
            self.unchanged.append((self.home.key(entry.path), key))
            self.entries.append(entry.model_copy(update={"path": key.removeprefix(self.prefix + "/")}))
            return
        file, kept = self.scratch / "items.parquet", pa.array(joined.kept)
        planned = self.home.verified(self.home.key(entry.path), entry)
        rows = pa.Table.from_batches([read_part(planned)])
        lost = pa.compute.invert(kept)
        self._quarantine(rows.column(ID).filter(lost), joined.keys.prints[~joined.kept], quarantine)
        at = rows.schema.get_field_index(FINGERPRINT)
        rows = rows.set_column(at, rows.field(at), digests_to_arrow(joined.keys.prints)).filter(kept)
        write_items(file, rows)
        self.entries.append(self.home.keep(key, file, relative_to=self.prefix, rows=len(rows)))

    def _count(self, joined: JoinedPart) -> None:
        """Add a part to the tally, its vectors to those that live, its records to the content digest."""
        embedded = joined.rows[joined.rows >= 0]
        own = int((embedded >= self.first_own).sum())
        self.live[embedded] = True
        self.tally.kept += joined.replaced
        self.tally.embedded += own
        self.tally.reused += len(embedded) - own
        self.tally.empty += len(joined.rows) - len(embedded)
        self.tally.content.update(joined.records)

    def _quarantine(self, ids: pa.ChunkedArray, prints: Digests, quarantine: QuarantineWriter) -> None:
        self.lost.add(ids, prints)
        for identifier, value in zip(ids.to_pylist(), prints, strict=True):
            fingerprint = bytes(value).ljust(16, b"\0")
            why = self.rejected.get(fingerprint)
            if why is None:
                raise AccountingError(
                    f"run {self.plan.run}: item {identifier!r} has neither a vector nor a reason why not"
                )
            quarantine.add(
                why.reason,
                ids=[identifier],
                rows=[None],
                details=[why.detail],
                fingerprints=[fingerprint],
                decoders=why.decoders,
            )

    @property
    def counts(self) -> Counts:
        """The plan's, as they came true."""
        there = self.tally.embedded + self.tally.reused
        duplicates = there - int(self.live.sum())
        found = self.lost.counts(self.plan.items, self.base, self.tally.kept)
        return found.model_copy(update={"duplicates": duplicates})

    def _account(self) -> None:
        tally, total = self.tally, self.plan.items.total
        found = tally.embedded + tally.reused + tally.empty + tally.quarantined
        if found != total:
            raise AccountingError(
                f"run {self.plan.run}: read {total} items, but embedded {tally.embedded} + reused "
                f"{tally.reused} + empty {tally.empty} + quarantined {tally.quarantined} = {found}"
            )


def _content(
    plan: Plan,
    candidate: Candidate,
    items: _Items,
    commits: list[CommitRecord],
    goldens: list[FileEntry],
    *,
    compacted: bool,
) -> Content:
    tally = items.tally
    profiles = [commit.profile for commit in commits] + [each for s in plan.salvaged for each in s.profiles]
    return Content(
        release=plan.run,
        pipeline=plan.pipeline,
        created=items.home.now(),
        base=plan.base,
        package_digest=plan.package_digest,
        encoder_digest=plan.encoder_digest,
        numerics=plan.numerics.model_copy(
            update={"stacks": distinct([*plan.numerics.stacks, *(each.stack for each in profiles)])}
        ),
        content_digest=tally.content.hexdigest(),
        dimension=plan.dimension,
        dtype="float32",
        items=tuple(items.entries),
        segments=candidate.segments,
        model=plan.model,
        goldens=tuple(goldens),
        quarantine=items.quarantine,
        profiles=distinct(profiles),
        counts=items.counts,
        embedded=tally.embedded,
        reused=tally.reused,
        empty=tally.empty,
        quarantined=tally.quarantined,
        kept=plan.items.kept + tally.kept,
        computed=sum((c.vectors.rows or 0) - c.copied for c in commits if c.vectors is not None),
        compacted=compacted,
        seconds=sum(commit.seconds * commit.lanes for commit in commits),
    )


def _sweep(home: Home, content: Content) -> None:
    """Delete what lost: CONTENT is written once, so that a file it does not name can never be named."""
    prefix = home.release_key(content.release)
    kept = {join_key(prefix, entry.path) for entry in content_files(content)}
    for info in list(home.store.list(prefix)):
        name = info.key.removeprefix(prefix + "/")
        if "/" in name and info.key not in kept:
            home.store.delete(info.key)
