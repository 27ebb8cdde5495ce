"""What other runs computed and never published: copied into a new run's own folder before it is planned.

A run is outlived when the catalog, the spec or the live release changed under it. Its committed vectors are
as good as ever where the encoder is the same. They are copied first and read then: what lies in the new run's
folder cannot vanish any more, whatever becomes of the other run. What is gone by then is computed anew.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from embedmill.errors import ObjectMissing, ReleaseCorrupt
from embedmill.release.contents import BY_CONTENT
from embedmill.release.goldens import SHARDS_SAMPLED, spread
from embedmill.release.layout import Home, relative
from embedmill.release.runs import commit_records
from embedmill.release.segments import salvaged_segment
from embedmill.release.thumbnails import THUMBNAILS
from embedmill.release.vectors import VectorPart, VectorTable
from embedmill.spec.documents import FileEntry, Salvaged, distinct
from embedmill.store import copy, join_key

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from embedmill.spec.documents import CommitRecord, Plan
    from embedmill.types import Digests, Mask


@dataclass
class _Source:
    """One run's vectors that could be saved; `used` once a row of the catalog needs one."""

    salvaged: Salvaged
    table: VectorTable
    used: bool = False


@dataclass
class Salvage:
    """The vectors that a new run takes over from others."""

    sources: list[_Source] = field(default_factory=list)

    @classmethod
    def collect(cls, home: Home, run: str, others: Iterable[Plan]) -> Salvage:
        """Copy the committed vectors of other runs, with this run's encoder, into this run's release."""
        salvage = cls()
        for other in others:
            saved = [_take(home, run, record) for record in commit_records(home, other, whole_ones=True)]
            found = [each for each in saved if each is not None]
            records = [record for _, _, record in found]
            small = [_take_beside(home, run, each, THUMBNAILS, each.thumbnails) for each in records]
            contents = [_take_beside(home, run, each, BY_CONTENT, each.by_content) for each in records]
            if found:
                salvaged = Salvaged(
                    run=other.run,
                    parts=tuple(entry for entry, _, _ in found),
                    thumbnails=tuple(entry for entry in small if entry is not None),
                    by_content=tuple(entry for entry in contents if entry is not None),
                    frozen=_take_inputs(home, run, other, {record.shard for _, _, record in found}),
                    profiles=distinct(record.profile for _, _, record in found),
                )
                salvage.sources.append(_Source(salvaged, VectorTable([part for _, part, _ in found])))
        return salvage

    def have(self, prints: Digests, wanted: Mask) -> Mask:
        """bool[N]: wanted fingerprints whose vectors were saved; their runs count as used from now on."""
        have = np.zeros(len(prints), dtype=np.bool_)
        for source in self.sources:
            here = wanted & ~have & (source.table.locate(prints) >= 0)
            source.used |= bool(here.any())
            have |= here
        return have

    @property
    def used(self) -> tuple[Salvaged, ...]:
        """Those that the run needs; `index` sweeps the others' copies away."""
        return tuple(source.salvaged for source in self.sources if source.used)


def _take(home: Home, run: str, record: CommitRecord) -> tuple[FileEntry, VectorPart, CommitRecord] | None:
    """Copy one shard's vectors and check them; None if there are none, or not any more."""
    if record.vectors is None:
        return None
    try:
        entry, file = _copied(home, run, record, "vectors", record.vectors)
        return entry, VectorPart.open(file), record
    except (ObjectMissing, ReleaseCorrupt):
        return None


def _take_beside(
    home: Home, run: str, record: CommitRecord, folder: str, entry: FileEntry | None
) -> FileEntry | None:
    """Copy what lies beside a shard's vectors; these are good without it."""
    if entry is None:
        return None
    try:
        return _copied(home, run, record, folder, entry)[0]
    except (ObjectMissing, ReleaseCorrupt):
        return None


def _copied(
    home: Home, run: str, record: CommitRecord, folder: str, entry: FileEntry
) -> tuple[FileEntry, Path]:
    """A file of another run's release, copied into this run's and checked."""
    inside = join_key(folder, salvaged_segment(run, record.run), entry.path.rsplit("/", 1)[1])
    own, key = entry.model_copy(update={"path": inside}), home.release_key(run, inside)
    copy(home.store, home.key(entry.path), key)
    return own, home.verified(key, own)


def _take_inputs(home: Home, run: str, other: Plan, shards: set[str]) -> tuple[FileEntry, ...]:
    """Copy the frozen rows of some of the shards: goldens are raw inputs, and only there are those left."""
    chosen = [shard for shard in other.shards if shard.name in shards]
    taken = []
    for shard in (chosen[place] for place in spread(len(chosen), SHARDS_SAMPLED)):
        key = home.run_key(run, "frozen", f"{other.run}-{shard.name}.arrow")
        with contextlib.suppress(ObjectMissing):
            copy(home.store, home.key(shard.file.path), key)
            taken.append(shard.file.model_copy(update={"path": relative(key, home.pipeline)}))
    return tuple(taken)
