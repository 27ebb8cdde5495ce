"""What the join asks of each planned item, which a plan leaves behind for a join in the same process.

To digest a million ids takes half a second, and the plan has done it. What it leaves lies in a mapped file,
whose name goes with the plan's temporary folder, and is found by the SHA-256 of the item file that it was
written beside: so it is of no other rows. Where nothing was left, as after a resume, the same is made of
the item file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, Self, TypeAlias

import numpy as np
import pyarrow as pa

from embedmill.digest import digests_from_arrow, digests_to_arrow

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from embedmill.types import Digests, Mask

_SCHEMA = pa.schema([("id", pa.binary(16)), ("fingerprint", pa.binary(16)), ("embedded", pa.uint8())])


class ItemKeys(NamedTuple):
    """Of the rows of an item file: `ids` S16[N], digests; `prints` S16[N]; `embedded` bool[N], by plan."""

    ids: Digests
    prints: Digests
    embedded: Mask

    def only(self, rows: Mask) -> ItemKeys:
        """Those of some rows."""
        return ItemKeys(self.ids[rows], self.prints[rows], self.embedded[rows])


KnownKeys: TypeAlias = Mapping[str, ItemKeys]
"""By the SHA-256 of the item file."""


class ItemKeysFile:
    """Keys of one item file after another, written and then mapped: 33 bytes a row, and no memory.

    Its `with` block is for writing, and closes the file however it ends.
    """

    def __init__(self, file: Path) -> None:
        """Begin the file."""
        self._file = file
        self._writer = pa.ipc.new_file(str(file), _SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._writer.close()

    def add(self, pieces: Sequence[ItemKeys]) -> None:
        """Write the keys of the next item file, which has the rows of all these pieces."""
        none = np.zeros(0, dtype="S16")
        ids, prints = (np.concatenate([none, *(each[at] for each in pieces)]) for at in (0, 1))
        embedded = np.concatenate([np.zeros(0, dtype=np.uint8), *(each.embedded for each in pieces)])
        columns = [digests_to_arrow(ids), digests_to_arrow(prints), pa.array(embedded.astype(np.uint8))]
        self._writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=_SCHEMA))

    def mapped(self) -> list[ItemKeys]:
        """Keys of each item file, once all are written; the file may lose its name then."""
        with pa.memory_map(str(self._file)) as source:
            reader = pa.ipc.open_file(source)
            return [_keys_of(reader.get_batch(number)) for number in range(reader.num_record_batches)]


def _keys_of(batch: pa.RecordBatch) -> ItemKeys:
    ids, prints, embedded = batch.columns
    mask = embedded.to_numpy(zero_copy_only=True).view(np.bool_)
    return ItemKeys(digests_from_arrow(ids), digests_from_arrow(prints), mask)
