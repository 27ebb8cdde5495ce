"""Messages as one Arrow column, and their digests, made in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from embedmill.arrow import ByteColumn
from embedmill.digest import digests_from_bytes
from embedmill.hashing.child import joined_digests

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from embedmill.types import Digests, Rows


class Messages(NamedTuple):
    """Messages that begin alike: each is the head and one of the tails, of which none is null."""

    tails: pa.LargeBinaryArray
    head: bytes


def digests_of(tails: pa.LargeBinaryArray, head: bytes = b"") -> Digests:
    """S16[N]: the BLAKE2b-128 of the head with each tail; there are no nulls."""
    offsets, joined = split(tails)
    return digests_from_bytes(joined_digests(offsets.data, joined, head))


def split(messages: pa.LargeBinaryArray) -> tuple[Rows, memoryview]:
    """Where messages begin and end in their bytes: int64[N + 1] from 0, and the bytes; no copy of these."""
    _, ends, values = messages.buffers()
    if not len(messages) or values is None:
        return np.zeros(len(messages) + 1, dtype=np.int64), memoryview(b"")
    offsets = np.frombuffer(ends, dtype=np.int64)[messages.offset : messages.offset + len(messages) + 1]
    return offsets - offsets[0], memoryview(values)[int(offsets[0]) : int(offsets[-1])]


def messages_of(values: Sequence[bytes] | pa.Array) -> pa.LargeBinaryArray:
    """Values as a column of messages: texts are their UTF-8."""
    if isinstance(values, ByteColumn):
        return values.array
    if isinstance(values, pa.Array):
        return values if values.type == pa.large_binary() else values.cast(pa.large_binary())
    return pa.array(values, pa.large_binary())


def fixed_width(values: npt.NDArray[np.generic]) -> pa.LargeBinaryArray:
    """The bytes of each value as it lies in memory, as a message."""
    joined, width = np.ascontiguousarray(values), values.dtype.itemsize
    ends = np.arange(0, (len(values) + 1) * width, width, dtype=np.int64)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(joined.tobytes())]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(values), buffers)
