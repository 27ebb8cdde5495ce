"""Thumbnail files: a small JPEG a fingerprint, beside the vectors of the same segment, carried and compacted
with them.

Columns: `fingerprint` (16 bytes, ascending), `thumbnail` (binary). Rows without a picture are not in them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from embedmill.digest import digests_from_arrow, digests_from_bytes, digests_to_arrow
from embedmill.errors import ReleaseCorrupt
from embedmill.types import DIGEST_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from embedmill.types import Digests

THUMBNAILS = "thumbnails"
"""The folder in a release."""


def write_thumbnails(file: Path, fingerprints: Digests, thumbnails: Sequence[bytes]) -> None:
    """Write one part: S16[N] ascending, and N files."""
    columns = {"fingerprint": digests_to_arrow(fingerprints), "thumbnail": pa.array(thumbnails, pa.binary())}
    batch = pa.RecordBatch.from_pydict(columns)
    with file.open("wb") as out, pa.ipc.new_file(out, batch.schema) as writer:
        writer.write_batch(batch)


@dataclass(frozen=True)
class ThumbnailPart:
    """One mapped file: `fingerprints` S16[N] ascending, `thumbnails` binary[N]."""

    fingerprints: Digests
    thumbnails: pa.BinaryArray

    @classmethod
    def open(cls, file: Path) -> ThumbnailPart:
        """Map a file.

        Raises:
            ReleaseCorrupt: It is no thumbnail file.
        """
        try:
            with pa.memory_map(str(file)) as source:
                batch = pa.ipc.open_file(source).get_batch(0)
            return cls(digests_from_arrow(batch.column("fingerprint")), batch.column("thumbnail"))
        except (pa.ArrowException, KeyError, ValueError) as error:
            raise ReleaseCorrupt(f"{file}: not a thumbnail file: {error}") from error


class ThumbnailTable:
    """Parts of any number of segments, looked into and never loaded."""

    def __init__(self, parts: Iterable[ThumbnailPart]) -> None:
        """The parts may come in any order."""
        self._parts = tuple(part for part in parts if len(part.fingerprints))

    def __bool__(self) -> bool:
        return bool(self._parts)

    def of(self, fingerprint: bytes) -> bytes | None:
        """The JPEG file of a fingerprint of 16 bytes, or None.

        Raises:
            ValueError: It is no fingerprint.
        """
        if len(fingerprint) != DIGEST_BYTES:
            raise ValueError(f"a fingerprint has {DIGEST_BYTES} bytes, and this has {len(fingerprint)}")
        (found,) = self.all_of(digests_from_bytes(fingerprint))
        return found

    def all_of(self, fingerprints: Digests) -> list[bytes | None]:
        """The JPEG file of each of S16[N], in order."""
        found: list[bytes | None] = [None] * len(fingerprints)
        for part in self._parts:
            at = np.searchsorted(part.fingerprints, fingerprints)
            at[at == len(part.fingerprints)] = 0
            for row in np.flatnonzero(part.fingerprints[at] == fingerprints).tolist():
                found[row] = part.thumbnails[int(at[row])].as_py()
        return found
