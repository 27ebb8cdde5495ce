"""Third pass, by fingerprint: one row of each distinct new fingerprint, frozen and cut into shards."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from embedmill.digest import ascending, digests_from_arrow
from embedmill.planning.ahead import most_ahead, worked_ahead
from embedmill.planning.gather import GatheredBytes, gather

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from embedmill.planning.spill import Spill
    from embedmill.types import Digests, Mask, Rows

SHARD_BYTES = 128 << 20
"""Shards are cut here too, so that a worker can hold one whole."""

MOST_OF_A_PIECE, MOST_OF_A_SHARD = 2, 3
"""Times as many bytes, unless one row alone has more. So the texts of a column stay far below the 2 GiB that
offsets of 32 bits allow, and those of a row alone, which Arrow holds already, reach them at most."""

OWN = ["_fingerprint", "_row", "_cost"]
"""What shards are cut by; all other columns are the encoder's, and may be large."""

OWN_BYTES = 16 + 8 + 8
"""Of these columns in a row."""


@dataclass(frozen=True)
class FrozenShard:
    """Rows of one shard: `_fingerprint` ascending and distinct, then the encoder's fields."""

    name: str
    file: Path
    rows: int
    cost: int

    def first_rows(self, count: int) -> pa.RecordBatch:
        """So many at most, from however many pieces; in order of fingerprints they are random."""
        with pa.memory_map(str(self.file)) as source:
            rows = pa.ipc.open_file(source).read_all().slice(0, count).combine_chunks()
        return rows.to_batches()[0]


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
    rows = cost = 0
    own_bytes = [count * OWN_BYTES for count in spill.rows]
    owned = (spill.read(bucket).select(OWN) for bucket in spill.filled())
    for _, costs in worked_ahead(partial(_chosen, dropped=dropped), owned, most=most_ahead(own_bytes)):
        rows, cost = rows + len(costs), cost + int(costs.sum())
    if not rows:
        return []
    target = cost / max(1, round(rows / shard_rows))
    cutter = _Cutter(folder, target, shard_bytes)
    whole = (spill.read(bucket) for bucket in spill.filled())
    distinct = partial(_distinct, dropped=dropped)
    with closing(worked_ahead(distinct, whole, most=most_ahead(spill.size_bytes))) as chosen:
        for bucket, found in zip(spill.filled(), chosen, strict=True):
            if len(found.rows):
                cutter.add(found)
            spill.drop(bucket)
    return cutter.finish()


class _Distinct(NamedTuple):
    """The rows of a bucket that are to be computed: where they lie in it, ascending by fingerprint."""

    bucket: pa.Table
    rows: Rows
    costs: Rows

    def gathered(self, start: int, end: int, most_bytes: int) -> Iterator[tuple[pa.Table, int]]:
        """Some of them, in their order: pieces, and their bytes."""
        rows = self.rows[start:end]
        if 2 * self.bucket.nbytes <= most_bytes:
            piece = gather(self.bucket, rows)
            yield piece, piece.nbytes
            return
        size = GatheredBytes(self.bucket, rows)
        for first, behind in _pieces(size, 0, len(rows), most_bytes):
            yield gather(self.bucket, rows[first:behind]), size.of(first, behind)


def _pieces(size: GatheredBytes, start: int, end: int, most_bytes: int) -> Iterator[tuple[int, int]]:
    """Cuts of as many rows each; where large rows lie together they are cut again."""
    pieces = min(end - start, max(1, -(-size.of(start, end) // most_bytes)))
    for numbers in np.array_split(np.arange(start, end), pieces):
        first, behind = int(numbers[0]), int(numbers[-1]) + 1
        if behind - first > 1 and size.of(first, behind) > MOST_OF_A_PIECE * most_bytes:
            yield from _pieces(size, first, behind, most_bytes)
        else:
            yield first, behind


class _Cutter:
    """Starts a new shard when the summed cost passes the next multiple of the target, or bytes are many."""

    def __init__(self, folder: Path, target: float, most_bytes: int) -> None:
        self._folder, self._target, self._most_bytes = folder, target, most_bytes
        self._pending: list[pa.Table] = []
        self._pending_bytes = 0
        self._shards: list[FrozenShard] = []
        self._spent = self._current = 0

    def add(self, found: _Distinct) -> None:
        """Rows are gathered piece by piece, so that they are not in memory twice."""
        costs = found.costs
        before = self._spent + np.cumsum(costs) - costs
        shard = (before / self._target).astype(np.int64)
        starts = np.flatnonzero(np.diff(shard, prepend=-1)).tolist()
        for start, end in zip(starts, [*starts[1:], len(shard)], strict=True):
            for piece, size_bytes in found.gathered(start, end, self._most_bytes):
                self._append(piece, size_bytes, int(shard[start]))
        self._spent += int(costs.sum())

    def finish(self) -> list[FrozenShard]:
        self._write()
        return self._shards

    def _append(self, rows: pa.Table, size_bytes: int, shard: int) -> None:
        full = self._pending_bytes >= self._most_bytes
        too_much = self._pending_bytes + size_bytes > MOST_OF_A_SHARD * self._most_bytes
        if self._pending and (shard != self._current or full or too_much):
            self._write()
        self._pending.append(rows)
        self._pending_bytes += size_bytes
        self._current = shard

    def _write(self) -> None:
        if not self._pending:
            return
        table = pa.concat_tables(self._pending)
        self._pending, self._pending_bytes = [], 0
        name = f"{len(self._shards):05d}"
        file = self._folder / f"{name}.arrow"
        frozen = table.drop_columns(["_cost"])
        with pa.ipc.new_file(str(file), frozen.schema) as writer:
            writer.write_table(frozen)
        self._shards.append(FrozenShard(name, file, len(table), int(table.column("_cost").to_numpy().sum())))


def _distinct(table: pa.Table, dropped: Mask) -> _Distinct:
    rows, costs = _chosen(table, dropped)
    bucket = table.drop_columns(["_row"]).combine_chunks()  # else each gather would do that
    return _Distinct(bucket, rows, costs)


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
