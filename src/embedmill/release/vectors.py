"""Vector files: one row per fingerprint, sorted by it, mapped and never loaded whole.

Columns: `fingerprint` (16 bytes), `vector` (D float32), `digest` (BLAKE2b-128 of the vector's
little-endian bytes). The digests let a release's content digest be computed without reading vectors, so
that a refresh carries old segments unread.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from embedmill.digest import ascending, digests_from_arrow, digests_from_bytes, digests_to_arrow
from embedmill.errors import ReleaseCorrupt

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from embedmill.types import Digests, Mask, Rows, Vectors


def vector_digests(vectors_ND: Vectors) -> Digests:
    """S16[N]: a digest of each vector's bits."""
    rows = np.ascontiguousarray(vectors_ND, dtype="<f4")
    return digests_from_bytes(b"".join(hashlib.blake2b(row, digest_size=16).digest() for row in rows))


def write_vectors(file: Path, fingerprints: Digests, vectors_ND: Vectors) -> None:
    """Write one part: S16[N] ascending, float32[N, D]."""
    vectors_ND = np.ascontiguousarray(vectors_ND, dtype=np.float32)
    columns = {
        "fingerprint": digests_to_arrow(fingerprints),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors_ND.reshape(-1)), vectors_ND.shape[1]),
        "digest": digests_to_arrow(vector_digests(vectors_ND)),
    }
    batch = pa.RecordBatch.from_pydict(columns)
    with file.open("wb") as out, pa.ipc.new_file(out, batch.schema) as writer:
        writer.write_batch(batch)


@dataclass(frozen=True)
class VectorPart:
    """One mapped file: `fingerprints` S16[N] ascending, `vectors_ND` float32[N, D], `digests` S16[N]."""

    fingerprints: Digests
    vectors_ND: Vectors
    digests: Digests

    @classmethod
    def open(cls, file: Path) -> VectorPart:
        """Map a file.

        Raises:
            ReleaseCorrupt: It is no vector file.
        """
        try:
            with pa.memory_map(str(file)) as source:
                batch = pa.ipc.open_file(source).get_batch(0)
            vectors = batch.column("vector")
            flat = vectors.flatten().to_numpy(zero_copy_only=True)
            shaped = flat.reshape(len(vectors), vectors.type.list_size)
            prints, digests = batch.column("fingerprint"), batch.column("digest")
            return cls(digests_from_arrow(prints), shaped, digests_from_arrow(digests))
        except (pa.ArrowException, KeyError, ValueError, AttributeError) as error:
            raise ReleaseCorrupt(f"{file}: not a vector file: {error}") from error


class VectorTable:
    """Parts of one or more segments as one table; rows are numbered through all parts in order."""

    def __init__(self, parts: Sequence[VectorPart]) -> None:
        """Parts of one segment are ascending in fingerprints, and follow each other."""
        self.parts = tuple(part for part in parts if len(part.fingerprints))
        self.starts: Rows = np.cumsum([0, *(len(part.fingerprints) for part in self.parts)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    @cached_property
    def _bounds(self) -> tuple[Digests, Digests]:
        """The first and the last fingerprint of each part."""
        first = [part.fingerprints[:1] for part in self.parts]
        last = [part.fingerprints[-1:] for part in self.parts]
        none = np.zeros(0, dtype="S16")
        return np.concatenate([none, *first]), np.concatenate([none, *last])

    def locate(self, fingerprints: Digests) -> Rows:
        """int64[N]: row of each fingerprint, -1 where there is none.

        Every part that may have one is looked into: ask for many at once.
        """
        order = ascending(fingerprints)
        wanted = fingerprints[order]
        found = np.full(len(wanted), -1, dtype=np.int64)
        low, high = self._bounds
        starts, ends = np.searchsorted(wanted, low, "left"), np.searchsorted(wanted, high, "right")
        for number in np.flatnonzero(starts < ends).tolist():
            a, b, prints = starts[number], ends[number], self.parts[number].fingerprints
            at = np.searchsorted(prints, wanted[a:b])
            hit = prints[at] == wanted[a:b]
            found[a:b][hit] = self.starts[number] + at[hit]
        rows = np.empty_like(found)
        rows[order] = found
        return rows

    def vectors(self, rows: Rows) -> Vectors:
        """float32[N, D]: the vectors of these rows; rows of -1 are zero."""
        width = self.parts[0].vectors_ND.shape[1] if self.parts else 0
        out = np.zeros((len(rows), width), dtype=np.float32)
        for chosen, part, local in self._by_part(rows):
            out[chosen] = part.vectors_ND[local]
        return out

    def fingerprints(self, rows: Rows) -> Digests:
        """S16[N]: the fingerprints of these rows; empty for rows of -1."""
        out = np.zeros(len(rows), dtype="S16")
        for chosen, part, local in self._by_part(rows):
            out[chosen] = part.fingerprints[local]
        return out

    def digests(self, rows: Rows) -> Digests:
        """S16[N]: the digests of these rows' vectors; empty for rows of -1."""
        out = np.zeros(len(rows), dtype="S16")
        for chosen, part, local in self._by_part(rows):
            out[chosen] = part.digests[local]
        return out

    def _by_part(self, rows: Rows) -> list[tuple[Rows, VectorPart, Rows]]:
        """Positions in `rows`, their part, and their rows in it."""
        order: Rows = np.argsort(rows, kind="stable")
        edges = np.searchsorted(rows[order], self.starts)
        result = []
        for number in np.flatnonzero(edges[:-1] < edges[1:]).tolist():
            chosen = order[edges[number] : edges[number + 1]]
            result.append((chosen, self.parts[number], rows[chosen] - self.starts[number]))
        return result


@dataclass(frozen=True)
class LiveVectors:
    """A table without the rows that no item refers to: `live` bool[all rows of `table`]."""

    table: VectorTable
    live: Mask

    def locate(self, fingerprints: Digests) -> Rows:
        """int64[N]: row of each fingerprint in `table`, -1 where there is none or no item refers to it."""
        rows = self.table.locate(fingerprints)
        found = np.flatnonzero(rows >= 0)
        rows[found[~self.live[rows[found]]]] = -1
        return rows

    def vectors(self, rows: Rows) -> Vectors:
        """See `VectorTable.vectors`."""
        return self.table.vectors(rows)
