"""Which fingerprint each content has: equal contents under another reference get the vector that is there.

A row's content is the fingerprint that it would have if its images were identified by their bytes. Files lie
beside the vectors of the same segment, under the same names, for rows with images by reference. Columns:
`content` (16 bytes, ascending), `fingerprint`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from embedmill.digest import digests_from_arrow, digests_to_arrow
from embedmill.errors import ReleaseCorrupt

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from embedmill.types import Digests, Mask, Rows

BY_CONTENT = "by-content"
"""The folder in a release."""


def write_contents(file: Path, contents: Digests, fingerprints: Digests) -> None:
    """Write one part: both S16[N], in any order."""
    order = np.argsort(contents, kind="stable")
    columns = {
        "content": digests_to_arrow(contents[order]),
        "fingerprint": digests_to_arrow(fingerprints[order]),
    }
    batch = pa.RecordBatch.from_pydict(columns)
    with file.open("wb") as out, pa.ipc.new_file(out, batch.schema) as writer:
        writer.write_batch(batch)


@dataclass(frozen=True)
class ContentPart:
    """One mapped file: `contents` S16[N] ascending, and their `fingerprints`."""

    contents: Digests
    fingerprints: Digests

    @classmethod
    def open(cls, file: Path) -> ContentPart:
        """Map a file.

        Raises:
            ReleaseCorrupt: It is none of these.
        """
        try:
            with pa.memory_map(str(file)) as source:
                batch = pa.ipc.open_file(source).get_batch(0)
            columns = (digests_from_arrow(batch.column(name)) for name in ("content", "fingerprint"))
            return cls(*columns)
        except (pa.ArrowException, KeyError, ValueError) as error:
            raise ReleaseCorrupt(f"{file}: not a file of contents: {error}") from error

    def locate(self, contents: Digests) -> Rows:
        """int64[N]: the first row of each content, -1 where there is none."""
        return _located(self.contents, contents)


class ContentTable:
    """The contents of any number of parts by fingerprint; 32 bytes a row in memory."""

    def __init__(self, parts: Iterable[ContentPart]) -> None:
        """Read the parts, in any order."""
        known = [*parts, ContentPart(np.zeros(0, dtype="S16"), np.zeros(0, dtype="S16"))]
        fingerprints = np.concatenate([part.fingerprints for part in known])
        order = np.argsort(fingerprints, kind="stable")
        self._fingerprints = fingerprints[order]
        self._contents = np.concatenate([part.contents for part in known])[order]

    def of(self, fingerprints: Digests) -> tuple[Digests, Mask]:
        """S16[N], bool[N]: the content of each fingerprint, and whether it is known."""
        rows = _located(self._fingerprints, fingerprints)
        found = np.zeros(len(rows), dtype="S16")
        found[rows >= 0] = self._contents[rows[rows >= 0]]
        return found, rows >= 0

    def same(self, fingerprints: Digests, other: ContentTable, others: Digests) -> Mask:
        """bool[N]: pairs of fingerprints, here and in the other table, whose contents are known and equal."""
        (mine, known), (theirs, there) = self.of(fingerprints), other.of(others)
        equal: Mask = known & there & (mine == theirs)
        return equal


def _located(ascending: Digests, wanted: Digests) -> Rows:
    rows: Rows = np.searchsorted(ascending, wanted).astype(np.int64)
    inside = rows < len(ascending)
    inside[inside] = ascending[rows[inside]] == wanted[inside]
    rows[~inside] = -1
    return rows
