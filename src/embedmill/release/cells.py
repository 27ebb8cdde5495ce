"""Cells of Arrow columns as Python values. Texts and numbers are read from the column's buffers.

A pyarrow scalar costs half a microsecond or more, and a search reads one for each shown column of each hit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyarrow import types

from embedmill.release.values import python_value

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt


def cells_of(column: pa.Array | pa.ChunkedArray) -> Callable[[int], Any]:
    """Reads a row's value, as `python_value` says it of the column's scalar."""
    if isinstance(column, pa.ChunkedArray) and column.num_chunks == 1:
        column = column.chunk(0)
    read = _from_buffers(column) if isinstance(column, pa.Array) and len(column) else None
    if read is None:
        return lambda row: python_value(column[row])
    if not column.null_count:
        return read
    valid = column.is_valid().to_numpy(zero_copy_only=False).data
    return lambda row: read(row) if valid[row] else None


def _from_buffers(column: pa.Array) -> Callable[[int], Any] | None:
    """Of columns of texts and of common numbers, whatever is null; None of others."""
    kind = column.type
    if types.is_string(kind):
        return _texts(column, np.int32)
    if types.is_large_string(kind):
        return _texts(column, np.int64)
    if types.is_integer(kind) or types.is_float32(kind) or types.is_float64(kind):
        return _numbers(column, 1, _dtype(kind), len(column)).data.__getitem__
    return None


def _dtype(kind: pa.DataType) -> np.dtype[Any]:
    """Of numbers; `kind.to_pandas_dtype` asks for pandas."""
    letter = "f" if types.is_floating(kind) else "i" if types.is_signed_integer(kind) else "u"
    return np.dtype(f"{letter}{kind.bit_width // 8}")


def _texts(column: pa.Array, width: type[np.signedinteger[Any]]) -> Callable[[int], str]:
    ends = _numbers(column, 1, width, len(column) + 1).data
    data = memoryview(column.buffers()[2] or b"")
    return lambda row: str(data[ends[row] : ends[row + 1]], "utf-8")


def _numbers(column: pa.Array, buffer: int, width: npt.DTypeLike, count: int) -> npt.NDArray[Any]:
    """A buffer from the column's own first row on."""
    start = column.offset * np.dtype(width).itemsize
    return np.frombuffer(column.buffers()[buffer], dtype=width, count=count, offset=start)
