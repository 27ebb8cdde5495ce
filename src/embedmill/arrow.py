"""Arrow columns without their encodings: what others write as dictionaries, large or view variants."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt


class ByteColumn(Sequence[bytes]):
    """A column of bytes without nulls: a sequence for whoever wants values, an array for who wants all."""

    def __init__(self, array: pa.LargeBinaryArray) -> None:
        """Take the array as it is."""
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    @overload
    def __getitem__(self, at: int) -> bytes: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[bytes]: ...

    def __getitem__(self, at: int | slice) -> bytes | Sequence[bytes]:
        found: bytes | Sequence[bytes] = (
            ByteColumn(self.array[at]) if isinstance(at, slice) else self.array[at].as_py()
        )
        return found

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.array.to_pylist())


def byte_views(column: pa.BinaryArray | pa.LargeBinaryArray) -> list[memoryview | None]:
    """The values of the column where they lie: what is large is not copied."""
    _, ends, values = column.buffers()
    if values is None:
        return [None] * len(column)
    width = np.int64 if pt.is_large_binary(column.type) else np.int32
    offsets = np.frombuffer(ends, width)[column.offset : column.offset + len(column) + 1].tolist()
    there = column.is_valid().to_pylist()
    joined = memoryview(values)
    return [
        joined[start:end] if valid else None
        for (start, end), valid in zip(pairwise(offsets), there, strict=True)
    ]


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type without its encoding: no dictionaries, run lengths, large or view variants, extensions."""
    while True:
        if isinstance(kind, pa.BaseExtensionType):
            kind = kind.storage_type
        elif pt.is_dictionary(kind) or pt.is_run_end_encoded(kind):
            kind = kind.value_type
        elif pt.is_large_string(kind) or pt.is_string_view(kind):
            return pa.string()
        elif pt.is_large_binary(kind) or pt.is_binary_view(kind):
            return pa.binary()
        else:
            return kind


def plain_array(column: pa.Array) -> pa.Array:
    """The values of the column in their plain type."""
    while True:
        if isinstance(column, pa.ExtensionArray):
            column = column.storage
        elif pt.is_dictionary(column.type):
            column = column.dictionary_decode()
        elif pt.is_run_end_encoded(column.type):
            column = pc.run_end_decode(column)
        else:
            return column.cast(plain_type(column.type))


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """The schema with plain types, all nullable, without metadata."""
    return pa.schema([pa.field(field.name, plain_type(field.type)) for field in schema])


def plain_table(table: pa.Table) -> pa.Table:
    """The table with its columns in their plain types."""
    columns = [
        pa.chunked_array([plain_array(chunk) for chunk in column.chunks], plain_type(column.type))
        for column in table.columns
    ]
    return pa.table(columns, schema=plain_schema(table.schema))
