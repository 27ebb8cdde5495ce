"""Vectors that a run on top of a release need not compute, since it has them of the same contents."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from embedmill.release.contents import ContentPart
from embedmill.release.layout import CONTENT
from embedmill.release.thumbnails import ThumbnailPart, ThumbnailTable
from embedmill.release.vectors import VectorPart, VectorTable
from embedmill.spec.documents import Content, FileEntry, Plan
from embedmill.store import join_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from embedmill.release.layout import Home
    from embedmill.types import Digests, Rows, Vectors


class Known(NamedTuple):
    """Rows whose vector is there: int64[R], float32[R, D], and thumbnails by row."""

    rows: Rows
    vectors: Vectors
    thumbnails: dict[int, bytes]


@dataclass(frozen=True)
class Original:
    """One part of a segment: its contents, and what lies beside them in the release of this prefix."""

    prefix: str
    contents: ContentPart
    vectors: FileEntry
    thumbnails: FileEntry | None


@dataclass(frozen=True)
class Originals:
    """The contents of a plan's base and of what it salvaged, where these are of the same encoder.

    What is found follows from the plan and the contents alone: every attempt at a shard finds the same.
    """

    home: Home
    plan: Plan

    def find(self, contents: Digests) -> Known:
        """What has a vector already, of N rows with these contents.

        Raises:
            ReleaseCorrupt: A file of the base is gone or damaged.
        """
        rows = np.full(len(contents), -1, dtype=np.int64)
        vectors = np.zeros((len(contents), self.plan.dimension), dtype=np.float32)
        thumbnails: dict[int, bytes] = {}
        for part in self._parts:
            open_rows = np.flatnonzero(rows < 0)
            at = part.contents.locate(contents[open_rows])
            hits = open_rows[at >= 0]
            if len(hits):
                prints = part.contents.fingerprints[at[at >= 0]]
                table = VectorTable([VectorPart.open(self._file(part.prefix, part.vectors))])
                there = table.locate(prints)
                hits, prints = hits[there >= 0], prints[there >= 0]
                rows[hits], vectors[hits] = hits, table.vectors(there[there >= 0])
                thumbnails |= self._thumbnails(part, hits, prints)
        found = rows[rows >= 0]
        return Known(found, vectors[found], thumbnails)

    def _thumbnails(self, part: Original, rows: Rows, prints: Digests) -> dict[int, bytes]:
        if part.thumbnails is None or self.plan.pipeline.catalog.thumbnails is None:
            return {}
        table = ThumbnailTable([ThumbnailPart.open(self._file(part.prefix, part.thumbnails))])
        pairs = zip(rows.tolist(), table.all_of(prints), strict=True)
        return {row: thumbnail for row, thumbnail in pairs if thumbnail is not None}

    @cached_property
    def _parts(self) -> list[Original]:
        found: list[Original] = []
        if self.plan.base is not None:
            prefix = self.home.release_key(self.plan.base.release)
            content = self.home.read(Content, join_key(prefix, CONTENT))
            if content.encoder_digest == self.plan.encoder_digest:
                for segment in content.segments:
                    found += self._originals(prefix, segment.by_content, segment.parts, segment.thumbnails)
        prefix = self.home.release_key(self.plan.run)
        for saved in self.plan.salvaged:
            found += self._originals(prefix, saved.by_content, saved.parts, saved.thumbnails)
        return found

    def _originals(
        self,
        prefix: str,
        by_content: Sequence[FileEntry],
        parts: Sequence[FileEntry],
        thumbnails: Sequence[FileEntry],
    ) -> Iterator[Original]:
        """Of one segment, whose files of one part have one name."""
        vectors = {_name(entry): entry for entry in parts}
        small = {_name(entry): entry for entry in thumbnails}
        for entry in by_content:
            name = _name(entry)
            if name in vectors:
                contents = ContentPart.open(self._file(prefix, entry))
                yield Original(prefix, contents, vectors[name], small.get(name))

    def _file(self, prefix: str, entry: FileEntry) -> Path:
        return self.home.fetched(join_key(prefix, entry.path), entry)


def _name(entry: FileEntry) -> str:
    return entry.path.rsplit("/", 1)[-1]
