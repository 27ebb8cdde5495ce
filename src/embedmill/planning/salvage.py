"""What other runs computed and never published: copied into a new run's own folder before it is planned.

A run is outlived when the catalog, the spec or the live release changed under it. Its committed vectors are
as good as ever where the encoder is the same. They are copied first and read then: what lies in the new run's
folder cannot vanish any more, whatever becomes of the other run. What is gone by then is computed anew.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from embedmill.errors import ObjectMissing, ReleaseCorrupt
from embedmill.release.layout import Home, relative
from embedmill.release.runs import commit_records
from embedmill.release.vectors import VectorPart, VectorTable
from embedmill.spec.documents import FileEntry, Salvaged
from embedmill.store import copy

if TYPE_CHECKING:
    from collections.abc import Iterable

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
            saved = [_take(home, run, record) for record in commit_records(home, other)]
            found = [each for each in saved if each is not None]
            if found:
                parts = tuple(entry for entry, _, _ in found)
                profiles = {record.profile.model_dump_json(): record.profile for _, _, record in found}
                salvaged = Salvaged(
                    run=other.run, parts=parts, profiles=tuple(profiles[key] for key in sorted(profiles))
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
    inside = relative(home.key(record.vectors.path), home.release_key(record.run))
    entry = record.vectors.model_copy(update={"path": inside})
    key = home.release_key(run, inside)
    try:
        copy(home.store, home.key(record.vectors.path), key)
        return entry, VectorPart.open(home.verified(key, entry)), record
    except (ObjectMissing, ReleaseCorrupt):
        return None
