"""Segments of a candidate: carried ones unread, the run's own delta, and compaction when deltas add up."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from embedmill.errors import ShardsMissing
from embedmill.index import build_graph
from embedmill.release.contents import BY_CONTENT, ContentPart, ContentTable, write_contents
from embedmill.release.layout import Home, relative
from embedmill.release.runs import document_of
from embedmill.release.thumbnails import THUMBNAILS, ThumbnailPart, ThumbnailTable, write_thumbnails
from embedmill.release.vectors import VectorPart, VectorTable, write_vectors
from embedmill.spec.documents import CommitRecord, Content, FileEntry, Plan, Segment
from embedmill.store import join_key
from embedmill.store.cache import copy_all, in_parallel

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from embedmill.release.reader import Release
    from embedmill.spec import IndexSpec, PipelineSpec
    from embedmill.types import Digests, Mask, Vectors

LOG = logging.getLogger("embedmill.release")
PART_ROWS = 16_384


@dataclass(frozen=True)
class Candidate:
    """Segments of the release being made; entries are relative to its folder."""

    home: Home
    release: str
    segments: tuple[Segment, ...]

    @property
    def prefix(self) -> str:
        """Key of the release's folder."""
        return self.home.release_key(self.release)

    def parts(self, segment: Segment) -> list[VectorPart]:
        """The mapped parts of one segment."""
        return [self._part(entry) for entry in segment.parts]

    def keep(self, file: Path, rows: int, *parts: str) -> FileEntry:
        """Move a file into the release's folder."""
        entry = self.home.keep(join_key(self.prefix, *parts), file, relative_to=self.prefix, rows=rows)
        file.unlink()
        return entry

    def thumbnails(self) -> ThumbnailTable:
        """Those of all segments."""
        entries = [entry for segment in self.segments for entry in segment.thumbnails]
        return ThumbnailTable(ThumbnailPart.open(self._file(entry)) for entry in entries)

    def contents(self) -> ContentTable:
        """Those of all segments."""
        entries = [entry for segment in self.segments for entry in segment.by_content]
        return ContentTable(ContentPart.open(self._file(entry)) for entry in entries)

    def _part(self, entry: FileEntry) -> VectorPart:
        return VectorPart.open(self._file(entry))

    def _file(self, entry: FileEntry) -> Path:
        return self.home.fetched(join_key(self.prefix, entry.path), entry)

    def table(self, base: Release | None = None) -> VectorTable:
        """All segments as one table; what the base has, too, is mapped there, where it may be already."""
        carried = {segment.name for segment in base.content.segments} if base else set()
        there = base.vector_parts if base and any(each.name in carried for each in self.segments) else {}
        entries = [entry for segment in self.segments for entry in segment.parts]
        return VectorTable([there.get(entry.sha256) or self._part(entry) for entry in entries])

    def with_live(self, live: Mask) -> Candidate:
        """The same, with live rows counted; `live` bool[all rows of `table`]."""
        ends = np.cumsum([segment.rows for segment in self.segments])
        counted = [
            segment.model_copy(update={"live": int(live[end - segment.rows : end].sum())})
            for segment, end in zip(self.segments, ends, strict=True)
        ]
        return replace(self, segments=tuple(counted))


def read_commits(home: Home, plan: Plan) -> list[CommitRecord]:
    """The commit record of every shard, in order.

    Raises:
        ShardsMissing: Some shards have none yet.
        RunDamaged: One is damaged.
    """
    present = {info.key for info in home.store.list(home.run_key(plan.run, "commits"))}
    keys = [home.run_key(plan.run, "commits", f"{shard.name}.json") for shard in plan.shards]
    missing = sum(key not in present for key in keys)
    if missing:
        shards = "1 shard is" if len(keys) == 1 else f"{len(keys)} shards are"
        raise ShardsMissing(
            f"run {plan.run}: {missing} of {shards} not done",
            hint="`embedmill resume` goes on",
        )
    return [document_of(home, plan.run, CommitRecord, key) for key in keys]


def gather(home: Home, plan: Plan, base: Content | None, commits: Sequence[CommitRecord]) -> Candidate:
    """Carry the base's segments over, add those that were salvaged, and make one of the run's own vectors.

    Raises:
        ReleaseCorrupt: A shard's vectors are not those that its worker wrote.
    """
    carried: list[Segment] = []
    if base is not None and base.encoder_digest == plan.encoder_digest:
        _carry(home, base, plan.run)
        carried = list(base.segments)
    carried += [
        _segment(salvaged_segment(plan.run, saved.run), saved.parts, saved.thumbnails, saved.by_content)
        for saved in plan.salvaged
    ]
    made = [commit.vectors for commit in commits if commit.vectors is not None]
    small = [commit.thumbnails for commit in commits if commit.thumbnails is not None]
    contents = [commit.by_content for commit in commits if commit.by_content is not None]
    every = [*made, *small, *contents]
    in_parallel(home.store, lambda entry: home.verified(home.key(entry.path), entry), every)
    if made:
        carried.append(
            _segment(plan.run, *(_inside(home, plan.run, entries) for entries in (made, small, contents)))
        )
    return Candidate(home, plan.run, tuple(carried))


def salvaged_segment(run: str, source: str) -> str:
    """The name of what a run takes over from another; its own, for a later one may take over more of it."""
    return f"{run}-from-{source}"


def _inside(home: Home, release: str, entries: Sequence[FileEntry]) -> list[FileEntry]:
    """Entries of files in a release's folder, with their paths in it."""
    prefix = relative(home.release_key(release), home.pipeline)
    return [entry.model_copy(update={"path": relative(entry.path, prefix)}) for entry in entries]


def _segment(
    name: str,
    parts: Sequence[FileEntry],
    thumbnails: Sequence[FileEntry],
    by_content: Sequence[FileEntry],
) -> Segment:
    rows = sum(entry.rows or 0 for entry in parts)
    return Segment(
        name=name,
        parts=tuple(parts),
        index=None,
        thumbnails=tuple(thumbnails),
        by_content=tuple(by_content),
        rows=rows,
        live=rows,
    )


def _carry(home: Home, base: Content, release: str) -> None:
    """Have the store copy the base's segments; their bytes are not read."""
    entries = [entry for segment in base.segments for entry in segment.files]
    source, target = home.release_key(base.release), home.release_key(release)
    copy_all(home.store, [(f"{source}/{entry.path}", f"{target}/{entry.path}") for entry in entries])


def needs_compaction(segments: Sequence[Segment], limit: float) -> bool:
    """Whether dead rows, and rows outside the base segment, are more than `limit` of all rows."""
    total = sum(segment.rows for segment in segments)
    base_live = segments[0].live if segments else 0
    return total > 0 and (total - base_live) / total > limit


def compact(candidate: Candidate, table: VectorTable, live: Mask, scratch: Path) -> Candidate:
    """One new segment of all live rows, in fingerprint order; vectors are moved, never computed."""
    segment, attempt = f"{candidate.release}-compacted", candidate.home.new_attempt()
    file = scratch / "compact.arrow"
    thumbnails, contents = candidate.thumbnails(), candidate.contents()
    parts: list[FileEntry] = []
    small: list[FileEntry] = []
    by_content: list[FileEntry] = []
    for number, (prints, vectors) in enumerate(_merged(table, live)):
        name = f"part-{number:05d}.{attempt}.arrow"
        write_vectors(file, prints, vectors)
        parts.append(candidate.keep(file, len(prints), "vectors", segment, name))
        found = dict(enumerate(thumbnails.all_of(prints) if thumbnails else []))
        shown = {row: thumbnail for row, thumbnail in found.items() if thumbnail is not None}
        if shown:
            write_thumbnails(file, prints[list(shown)], list(shown.values()))
            small.append(candidate.keep(file, len(shown), THUMBNAILS, segment, name))
        made_of, known = contents.of(prints)
        if known.any():
            write_contents(file, made_of[known], prints[known])
            by_content.append(candidate.keep(file, int(known.sum()), BY_CONTENT, segment, name))
    segments = (_segment(segment, parts, small, by_content),) if parts else ()
    return replace(candidate, segments=segments)


def _merged(table: VectorTable, live: Mask) -> Iterator[tuple[Digests, Vectors]]:
    """Live rows of a whole table in fingerprint order, PART_ROWS at a time."""
    rows = np.flatnonzero(live)
    prints = np.concatenate([part.fingerprints for part in table.parts] or [np.zeros(0, dtype="S16")])[rows]
    order = rows[np.argsort(prints, kind="stable")]
    del prints
    for start in range(0, len(order), PART_ROWS):
        chosen = order[start : start + PART_ROWS]
        yield table.fingerprints(chosen), table.vectors(chosen)


def build_indexes(candidate: Candidate, spec: PipelineSpec, dimension: int, scratch: Path) -> Candidate:
    """Index the segments that are large enough for it and have no index yet; others are searched exactly."""
    done = []
    for segment in candidate.segments:
        if spec.index.kind != "hnsw" or segment.rows < spec.index.exact_below:
            done.append(segment.model_copy(update={"index": None, "search_effort": None, "recall": None}))
        elif segment.index is None:
            done.append(_indexed(candidate, segment, spec, dimension, scratch))
        else:
            done.append(segment)
        _warn_of_recall(done[-1], spec.index)
    return replace(candidate, segments=tuple(done))


def _warn_of_recall(segment: Segment, spec: IndexSpec) -> None:
    """A graph keeps its effort: where `index.recall` was raised since, or is out of reach, it finds less."""
    if spec.search_effort is None and segment.recall is not None and segment.recall < spec.recall:
        LOG.warning(
            "the graph of segment %s has a recall@10 of %g, below index.recall: %g; "
            "it stays until segments are compacted, and index.search_effort overrides it",
            *(segment.name, segment.recall, spec.recall),
        )


def _indexed(
    candidate: Candidate, segment: Segment, spec: PipelineSpec, dimension: int, scratch: Path
) -> Segment:
    file = scratch / "index.faiss"
    parts = [part.vectors_ND for part in candidate.parts(segment)]
    built = build_graph(parts, dimension, spec.index)
    built.graph.save(file)
    key = join_key(candidate.prefix, "index", f"{segment.name}.{candidate.home.new_attempt()}.faiss")
    entry: FileEntry = candidate.home.keep(key, file, relative_to=candidate.prefix)
    file.unlink()
    measured = {"search_effort": built.search_effort, "recall": built.recall}
    return segment.model_copy(update={"index": entry} | (measured if built.recall is not None else {}))
