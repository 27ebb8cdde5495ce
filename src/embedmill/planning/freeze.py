"""Third pass, by fingerprint: one row of each distinct new fingerprint, frozen and cut into shards."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from embedmill.digest import ascending, digests_from_arrow
from embedmill.planning.ahead import most_ahead, worked_ahead
from embedmill.planning.gather import GatheredBytes, gather, where_they_lie
from embedmill.planning.shards import Piece, ShardFiles
from embedmill.planning.spill import LARGE_ROW_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from embedmill.planning.shards import FrozenShard
    from embedmill.planning.spill import Spill
    from embedmill.types import Digests, Mask, Rows

SHARD_BYTES = 128 << 20
"""Shards are cut here too, so that a worker can hold one whole."""

MOST_OF_A_PIECE = 2
"""Times as many bytes, unless one row alone has more."""

GATHERED_ROWS = 1 << 14
"""At once, or a shard: pieces of large buckets, which only one or two of are in memory."""

OWN = ["_fingerprint", "_row", "_cost"]
"""What shards are cut by; all other columns are the encoder's, and may be large."""

OWN_BYTES = 16 + 8 + 8
"""Of these columns in a row."""


def count_distinct(prints: Spill) -> int:
    """Distinct fingerprints in a spill of them."""
    read = (_prints(prints.read(bucket)) for bucket in prints.filled())
    most = most_ahead(prints.size_bytes)
    return sum(
        worked_ahead(lambda found: int(_first_of_equal(found[ascending(found)]).sum()), read, most=most)
    )


def freeze(
    folder: Path, spill: Spill, dropped: Mask, shard_rows: int, *, shard_bytes: int = SHARD_BYTES
) -> list[FrozenShard]:
    """Write the rows to compute into shards of about equal cost, `shard_rows` rows each on average.

    The rows, their order and the cuts depend on the catalog's contents, the base and `shard_rows` alone.
    """
    folder.mkdir()
    own_bytes = [count * OWN_BYTES for count in spill.rows]
    owned = (spill.read(bucket).select(OWN) for bucket in spill.filled())
    rows, spent = 0, [0]
    for _, costs in worked_ahead(partial(_chosen, dropped=dropped), owned, most=most_ahead(own_bytes)):
        rows += len(costs)
        spent.append(spent[-1] + int(costs.sum()))
    if not rows:
        return []
    target = spent[-1] / max(1, round(rows / shard_rows))
    most = most_ahead(spill.size_bytes)
    whole = ((spill.read(bucket), before) for bucket, before in zip(spill.filled(), spent, strict=False))
    cut = worked_ahead(partial(_cut, dropped=dropped, target=target), whole, most=min(1, most))

    def some() -> Iterator[_Cut]:
        for bucket, found in zip(spill.filled(), cut, strict=True):
            spill.drop(bucket)
            yield from found.some() if most else [found]

    gathered = worked_ahead(partial(_gathered, most_bytes=shard_bytes, now=most > 0), some(), most=most)
    with ShardFiles(folder, shard_bytes) as shards, closing(cut), closing(gathered):
        for pieces in gathered:
            for piece in pieces:
                shards.add(piece)
        return shards.finish()


class _Cut(NamedTuple):
    """Rows of a bucket that are to be computed, ascending by fingerprint, and the shard of each: int64[N].

    `apart`: they are large, and are copied once, from where they lie.
    """

    bucket: pa.Table
    rows: Rows
    shards: Rows
    apart: bool

    @property
    def edges(self) -> list[int]:
        """Where the rows of each shard begin, and where the last ones end."""
        return [*np.flatnonzero(np.diff(self.shards, prepend=-1)).tolist(), len(self.rows)]

    def some(self) -> Iterator[_Cut]:
        """The same, some shards at a time."""
        first = 0
        for edge in self.edges:
            if edge - first >= GATHERED_ROWS or edge == len(self.rows) > first:
                yield self._replace(rows=self.rows[first:edge], shards=self.shards[first:edge])
                first = edge


def _cut(bucket: tuple[pa.Table, int], *, dropped: Mask, target: float) -> _Cut:
    """A shard ends where the cost of all rows passes the next multiple of the target.

    `bucket` has the cost of the rows before its own.
    """
    table, before = bucket
    rows, costs = _chosen(table, dropped)
    shards = ((before + np.cumsum(costs) - costs) / target).astype(np.int64)
    table = table.drop_columns(["_row"])
    apart = table.nbytes >= LARGE_ROW_BYTES * len(table)
    whole = table if apart else table.combine_chunks()  # else each gather would do that
    return _Cut(whole, rows, shards, apart)


def _gathered(cut: _Cut, *, most_bytes: int, now: bool) -> Iterable[Piece]:
    """The rows of each shard: pieces, so that they are not in memory twice; one by one if not all `now`."""
    pieces = (_apart if cut.apart else _copied)(cut, most_bytes)
    return list(pieces) if now else pieces


def _copied(cut: _Cut, most_bytes: int) -> Iterator[Piece]:
    for start, end in pairwise(cut.edges):
        rows, shard = cut.rows[start:end], int(cut.shards[start])
        if 2 * cut.bucket.nbytes <= most_bytes:
            piece = gather(cut.bucket, rows)
            yield Piece(piece, piece.nbytes, shard)
            continue
        size = GatheredBytes(cut.bucket, rows)
        for first, behind in _pieces(size, 0, len(rows), most_bytes):
            yield Piece(gather(cut.bucket, rows[first:behind]), size.of(first, behind), shard)


def _apart(cut: _Cut, most_bytes: int) -> Iterator[Piece]:
    lying, size = where_they_lie(cut.bucket, cut.rows), GatheredBytes(cut.bucket, cut.rows)
    for start, end in pairwise(cut.edges):
        for first, behind in _pieces(size, start, end, most_bytes):
            rows = pa.Table.from_batches(lying[first:behind])
            yield Piece(rows, size.of(first, behind), int(cut.shards[start]), apart=True)


def _pieces(size: GatheredBytes, start: int, end: int, most_bytes: int) -> Iterator[tuple[int, int]]:
    """Cuts of as many rows each; where large rows lie together they are cut again."""
    pieces = min(end - start, max(1, -(-size.of(start, end) // most_bytes)))
    for numbers in np.array_split(np.arange(start, end), pieces):
        first, behind = int(numbers[0]), int(numbers[-1]) + 1
        if behind - first > 1 and size.of(first, behind) > MOST_OF_A_PIECE * most_bytes:
            yield from _pieces(size, first, behind, most_bytes)
        else:
            yield first, behind


def _chosen(table: pa.Table, dropped: Mask) -> tuple[Rows, Rows]:
    """Rows that are not dropped, one a fingerprint: the first in the catalog, ascending; their costs."""
    kept = np.flatnonzero(~dropped[table.column("_row").to_numpy()])
    prints = _prints(table)[kept]
    order = ascending(prints)  # rows came in the catalog's order, so the first one stays first
    rows = kept[order[_first_of_equal(prints[order])]]
    return rows, table.column("_cost").to_numpy()[rows]


def _first_of_equal(ordered: Digests) -> Mask:
    first: Mask = np.ones(len(ordered), dtype=np.bool_)
    first[1:] = ordered[1:] != ordered[:-1]
    return first


def _prints(table: pa.Table) -> Digests:
    column = table.column("_fingerprint").combine_chunks()
    return digests_from_arrow(column.chunk(0) if isinstance(column, pa.ChunkedArray) else column)
