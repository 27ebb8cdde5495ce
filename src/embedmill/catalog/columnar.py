"""Parquet and Arrow files, some rows at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt
from pyarrow import ipc
from pyarrow import parquet as pq

from embedmill.arrow import plain_array, plain_schema
from embedmill.catalog.base import BATCH_BYTES, BATCH_ROWS, Absent, Chunk, UnreadableRow, reading
from embedmill.catalog.schema import cast_where_possible, lost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

READ_AHEAD_BYTES = 1 << 20
FEW_ROWS = 256
"""Rows read at once where a large dictionary hides how long the rows are."""

_RAW = {
    pa.string(): pa.binary(),
    pa.large_string(): pa.large_binary(),
    pa.string_view(): pa.binary_view(),
}


class ParquetFile:
    """One Parquet file, read row group by row group through small buffers."""

    has_lines = False
    absent: Absent = "error"

    def __init__(self, name: str, path: Path) -> None:
        """Read the footer."""
        self.name, self._path = name, path
        with reading(name, "Parquet"), pq.ParquetFile(path) as file:
            self.schema = plain_schema(file.schema_arrow)
            self._shared = _shared_values(file.metadata, self.schema)

    def chunks(self, schema: pa.Schema) -> Iterator[Chunk]:
        """The rows, with the columns of `schema`."""
        done = 0
        with reading(self.name, "Parquet"), self._open(schema.names) as file:
            for group in range(file.num_row_groups):
                rows = self._rows_at_once(file.metadata.row_group(group), schema)
                for batch in file.iter_batches(
                    rows, row_groups=[group], columns=schema.names, use_threads=False
                ):
                    for piece in _pieces(batch.select(schema.names)):
                        yield conformed(self.name, piece, schema, done)
                        done += len(piece)

    def _open(self, columns: list[str]) -> pq.ParquetFile:
        return pq.ParquetFile(
            self._path,
            pre_buffer=False,
            buffer_size=READ_AHEAD_BYTES,
            page_checksum_verification=True,
            read_dictionary=[name for name in columns if name in self._shared] or None,
        )

    def _rows_at_once(self, group: pq.RowGroupMetaData, schema: pa.Schema) -> int:
        """Rows of the group that fill a batch, judged by its mean row."""
        size, most = 0, BATCH_ROWS
        for chunk in _chunks_of(group, schema.names):
            size += chunk.total_uncompressed_size
            name = chunk.path_in_schema
            if chunk.has_dictionary_page and name not in self._shared and _is_binary(schema, name):
                most = FEW_ROWS
        return int(max(1, min(most, BATCH_BYTES * group.num_rows // max(size, 1))))


class ArrowFile:
    """One Arrow IPC file or stream, mapped into memory.

    All columns of a record batch are opened: that is free, unless the file is compressed. Arrow's own
    projection copies what it reads.
    """

    has_lines = False
    absent: Absent = "error"

    def __init__(self, name: str, path: Path) -> None:
        """Read the schema."""
        self.name, self._path = name, path
        with reading(name, "Arrow IPC"), pa.memory_map(str(path)) as source:
            self.schema = plain_schema(_opened(source).schema)

    def chunks(self, schema: pa.Schema) -> Iterator[Chunk]:
        """The rows, with the columns of `schema`."""
        done = 0
        with reading(self.name, "Arrow IPC"), pa.memory_map(str(self._path)) as source:
            for batch in _record_batches(_opened(source)):
                for piece in _pieces(_checked(batch.select(schema.names))):
                    yield conformed(self.name, piece, schema, done)
                    done += len(piece)


def _opened(source: pa.MemoryMappedFile) -> ipc.RecordBatchFileReader | ipc.RecordBatchStreamReader:
    is_file = source.read(6) == b"ARROW1"
    source.seek(0)
    return ipc.open_file(source) if is_file else ipc.open_stream(source)


def _record_batches(
    reader: ipc.RecordBatchFileReader | ipc.RecordBatchStreamReader,
) -> Iterator[pa.RecordBatch]:
    if isinstance(reader, ipc.RecordBatchFileReader):
        return (reader.get_batch(at) for at in range(reader.num_record_batches))
    return iter(reader)


def _checked(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Refuse offsets and indices that lead out of their buffers: Arrow would follow them, and crash."""
    for column in batch.columns:
        _as_bytes(column).validate(full=True)
    return batch


def _as_bytes(column: pa.Array) -> pa.Array:
    """The column with texts as bytes: those that are not UTF-8 cost their row, not the file."""
    if isinstance(column, pa.ExtensionArray):
        return _as_bytes(column.storage)
    if isinstance(column, pa.DictionaryArray):
        return pa.DictionaryArray.from_arrays(column.indices, _as_bytes(column.dictionary), safe=False)
    raw = _RAW.get(column.type)
    return column.view(raw) if raw else column


def _shared_values(metadata: pq.FileMetaData, schema: pa.Schema) -> frozenset[str]:
    """Binary columns that are read as dictionaries: an image that a thousand rows share is held once.

    Only where the dictionary is small, for Arrow keeps all of it.
    """
    shared = {field.name for field in schema if pt.is_binary(field.type)}
    for group in range(metadata.num_row_groups) if shared else ():
        for chunk in _chunks_of(metadata.row_group(group), list(shared)):
            if chunk.total_uncompressed_size > BATCH_BYTES or not chunk.has_dictionary_page:
                shared.discard(chunk.path_in_schema)
    return frozenset(shared)


def _chunks_of(group: pq.RowGroupMetaData, columns: list[str]) -> Iterator[pq.ColumnChunkMetaData]:
    for at in range(group.num_columns):
        chunk = group.column(at)
        if chunk.path_in_schema in columns or chunk.path_in_schema.split(".", 1)[0] in columns:
            yield chunk


def _is_binary(schema: pa.Schema, name: str) -> bool:
    return name in schema.names and bool(pt.is_binary(schema.field(name).type))


def _pieces(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """The batch in slices of bounded rows and decoded bytes."""
    for start in range(0, len(batch), BATCH_ROWS):
        yield from _halved(batch.slice(start, BATCH_ROWS))


def _halved(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    if len(batch) <= 1 or _decoded_bytes(batch) <= BATCH_BYTES:
        yield batch
    else:
        yield from _halved(batch.slice(0, len(batch) // 2))
        yield from _halved(batch.slice(len(batch) // 2))


def _decoded_bytes(batch: pa.RecordBatch) -> int:
    return sum(_dictionary_bytes(c) if pt.is_dictionary(c.type) else c.nbytes for c in batch.columns)


def _dictionary_bytes(column: pa.DictionaryArray) -> int:
    """What the column takes once each row has its own copy."""
    words = plain_array(column.dictionary)
    if not (pt.is_string(words.type) or pt.is_binary(words.type)):
        return 8 * len(column)
    return int(pc.sum(pc.take(pc.binary_length(words), column.indices)).as_py() or 0)


def conformed(
    name: str,
    batch: pa.RecordBatch,
    schema: pa.Schema,
    before: int,
    *,
    known: Mapping[int, str] | None = None,
    label: Callable[[int], str] | None = None,
) -> Chunk:
    """The batch in the types of `schema`, without the rows that have no such value.

    `before` counts the rows of earlier batches. `known` has what is already known to be wrong with rows of
    this one; `label` names a row in messages, which otherwise have its number.
    """
    columns: list[pa.Array] = []
    problems = dict(known or {})
    for field, column in zip(schema, batch.columns, strict=True):
        found = plain_array(column)
        cast = cast_where_possible(_valid_text(found), field.type)
        for row in np.flatnonzero(lost(column, cast)).tolist():
            is_text = pt.is_string(found.type) and pt.is_string(field.type)
            what = "not UTF-8 text" if is_text else f"not a value of type {field.type}"
            problems.setdefault(row, f"column {field.name!r} is {what}")
        columns.append(cast)
    numbers = np.arange(before + 1, before + len(batch) + 1, dtype=np.int64)
    rows = pa.RecordBatch.from_arrays(columns, schema=schema)
    if problems:
        good = np.setdiff1d(np.arange(len(batch)), list(problems))
        rows, numbers = rows.take(pa.array(good)), numbers[good]
    named = label or (lambda row: f"row {before + row + 1}")
    said = (UnreadableRow(name, None, f"{named(row)}: {problems[row]}") for row in sorted(problems))
    return Chunk(rows, numbers, tuple(said))


def _valid_text(column: pa.Array) -> pa.Array:
    """The column with null for text that is not UTF-8; readers do not check."""
    if not pt.is_string(column.type):
        return column
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return cast_where_possible(column.cast(pa.binary()), pa.string())
    return column
