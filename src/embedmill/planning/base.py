"""The live release's items in the order that they lie in, which is that of the join: nothing is digested.

Items ascend in id digests. So the digests of some ids tell the ranges of all those between them, and ids
are compared by what their digests are made of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from embedmill.catalog import id_digests, id_messages
from embedmill.catalog.fingerprint import id_family
from embedmill.digest import digests_from_arrow, digests_to_arrow
from embedmill.planning.spill import ranges_of
from embedmill.release.items import FINGERPRINT, ID, is_embedded, item_fingerprints

if TYPE_CHECKING:
    from collections.abc import Iterable

    from embedmill.planning.spill import Ranges
    from embedmill.release.reader import Release
    from embedmill.types import Digests, Mask

SAMPLED_EVERY = 64
_SCHEMA = pa.schema([("id", pa.large_binary()), (FINGERPRINT, pa.binary(16)), ("embedded", pa.bool_())])


class BaseRows(NamedTuple):
    """Items of one range: `head` and one of `ids` are the canonical bytes of each id."""

    head: bytes
    ids: pa.LargeBinaryArray
    prints: Digests
    embedded: Mask


class BaseItems:
    """Items by range of digests; ranges are asked for once, in ascending order."""

    def __init__(self, items: Iterable[pa.RecordBatch], ranges: int) -> None:
        """Take item rows (`id`, `_fingerprint`, `_state`) in the order of their files; so many ranges."""
        self._items, self._ranges = iter(items), ranges
        self._head = b""
        self._rest: tuple[pa.RecordBatch, Ranges] | None = None

    def take(self, number: int) -> BaseRows:
        """All rows of a range."""
        found: list[pa.RecordBatch] = []
        while (held := self._next()) is not None:
            rows, ranges = held
            end = int(np.searchsorted(ranges, number, "right"))
            found.append(rows.slice(0, end))
            self._rest = (rows.slice(end), ranges[end:])
            if end < len(rows):
                break
        table = pa.Table.from_batches(found, schema=_SCHEMA).combine_chunks()
        ids, prints, embedded = (
            column.chunk(0) if column.num_chunks else pa.array([], column.type) for column in table.columns
        )
        return BaseRows(self._head, ids, digests_from_arrow(prints), embedded.to_numpy(zero_copy_only=False))

    def _next(self) -> tuple[pa.RecordBatch, Ranges] | None:
        """Rows that were not taken yet, and their ranges; None at the end."""
        while self._rest is None or not len(self._rest[0]):
            batch = next(self._items, None)
            if batch is None:
                return None
            ids = batch.column(ID)
            own = [digests_to_arrow(item_fingerprints(batch)), pa.array(is_embedded(batch))]
            tails, self._head = id_messages(ids)
            rows = pa.RecordBatch.from_arrays([tails, *own], schema=_SCHEMA)
            self._rest = (rows, sorted_ranges(ids, self._ranges))
        return self._rest


def sorted_ranges(ids: pa.Array, count: int) -> Ranges:
    """uint16[N]: the range of each id, of so many; ids ascend in their digests, of which few are made."""
    sampled = np.unique([*range(0, len(ids), SAMPLED_EVERY), len(ids) - 1])
    known = ranges_of(id_digests(ids.take(pa.array(sampled))), count)
    counts = np.diff(sampled)
    ranges = np.concatenate([np.repeat(known[:-1], counts), known[-1:]])
    unsure = np.flatnonzero(np.repeat(known[:-1] != known[1:], counts))
    ranges[unsure] = ranges_of(id_digests(ids.take(pa.array(unsure))), count)
    return ranges


def retyped_ids(base: Release | None, column: pa.Field) -> str:
    """A word on ids that are no longer of the live release's type, after what a plan says; empty if they are.

    `column` is the catalog's id. Ids of two families are never equal, whatever they look like.
    """
    if base is None or not base.content.items:
        return ""
    before = base.item_schema.field(ID).type
    if id_family(before) == id_family(column.type):
        return ""
    return (
        f"; the id column {column.name!r} is {column.type}, and was {before} in release {base.name}: "
        "no item is known by its id, so all are new and those of before deleted"
    )
