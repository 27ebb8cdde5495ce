"""Rows of a table by their numbers, and how many bytes they take, told before they are copied."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from embedmill.types import Rows


def gather(table: pa.Table, rows: Rows) -> pa.Table:
    """These rows, copied in this order; their texts may be of 2 GiB together, those of the table of more.

    Arrow would first make one piece of a column that is in several, which 32-bit offsets do not allow.
    """
    batches = table.to_batches()
    if len(batches) < 2:
        return table.take(pa.array(rows))
    starts = np.cumsum([0, *(len(batch) for batch in batches)])
    piece = np.searchsorted(starts, rows, side="right") - 1
    parts = [
        batch.take(pa.array(rows[piece == number] - starts[number])) for number, batch in enumerate(batches)
    ]
    place = np.empty(len(rows), dtype=np.int64)
    place[np.argsort(piece, kind="stable")] = np.arange(len(rows))
    return pa.Table.from_batches(parts).combine_chunks().take(pa.array(place))


def where_they_lie(table: pa.Table, rows: Rows) -> list[pa.RecordBatch]:
    """Each of these rows, in this order, as a slice of the table's own memory."""
    batches = table.to_batches()
    starts = np.cumsum([0, *(len(batch) for batch in batches)])
    piece = np.searchsorted(starts, rows, side="right") - 1
    places = (rows - starts[piece]).tolist()
    return [batches[number].slice(row, 1) for number, row in zip(piece.tolist(), places, strict=True)]


def put_together(lying: pa.Table) -> pa.Table:
    """A copy of rows that are slices, whose bytes depend on nothing that lies beside or under them.

    Arrow takes one slice for a piece as it is, and its files would have what follows it, up to 64 bytes.
    Where it puts several together, it copies what lies under nulls; a gather writes zeros there.
    """
    rows = pa.array(range(len(lying)), pa.int64())
    if not lying.num_columns or lying.column(0).num_chunks < 2:
        return lying.take(rows)
    whole = lying.combine_chunks()
    columns = [
        column.take(rows) if column.null_count or pa.types.is_nested(column.type) else column
        for column in whole.columns
    ]
    return pa.table(columns, schema=whole.schema)


class GatheredBytes:
    """Of `gather(table, rows)` and of parts of it: all is copied for this but what texts contain."""

    def __init__(self, table: pa.Table, rows: Rows) -> None:
        """Measure these rows of the table."""
        light = pa.table([_light(column) for column in table.columns], names=table.column_names)
        self._light = gather(light.combine_chunks(), rows)
        contents = np.zeros(len(table), dtype=np.int64)
        for column in table.columns:
            if _offset_bytes(column.type):
                contents += _contents_bytes(column)
        self._contents = contents[rows]

    def of(self, start: int, end: int) -> int:
        """Of these rows of them, as a slice of all has them."""
        return int(self._light.slice(start, end - start).nbytes + self._contents[start:end].sum())


def _light(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The same column, its nulls among it, whose texts are empty."""
    width = _offset_bytes(column.type)
    if not width:
        return column
    chunks = [_emptied(chunk, width) for chunk in column.chunks]
    return pa.chunked_array(chunks, column.type)


def _emptied(chunk: pa.Array, width: int) -> pa.Array:
    offsets = pa.py_buffer(bytes((chunk.offset + len(chunk) + 1) * width))
    buffers = [chunk.buffers()[0], offsets, pa.py_buffer(b"")]
    return pa.Array.from_buffers(chunk.type, len(chunk), buffers, offset=chunk.offset)


def _contents_bytes(column: pa.ChunkedArray) -> Rows:
    lengths: Rows = pc.fill_null(pc.binary_length(column), 0).to_numpy().astype(np.int64)
    return lengths


def _offset_bytes(kind: pa.DataType) -> int:
    """Of a text's or a binary's offsets; 0 for all other types."""
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        return 4
    return 8 if pa.types.is_large_string(kind) or pa.types.is_large_binary(kind) else 0
