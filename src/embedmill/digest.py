"""128-bit digests in numpy and Arrow.

Trap: numpy drops trailing NUL bytes when an element of an S16 array becomes a Python value, so digests
are never taken out one by one: they travel as one buffer of 16 bytes each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from embedmill.types import DIGEST_BYTES

if TYPE_CHECKING:
    from embedmill.types import Digests, Rows

_DTYPE = np.dtype(f"S{DIGEST_BYTES}")


def digests_from_bytes(joined: bytes) -> Digests:
    """S16[N] over `joined`, N digests one after another; read only, no copy.

    Raises:
        ValueError: The length is no multiple of 16.
    """
    return np.frombuffer(joined, dtype=_DTYPE)


def digest_bytes(digests: Digests) -> bytes:
    """The digests one after another, 16 bytes each."""
    return np.ascontiguousarray(digests, dtype=_DTYPE).tobytes()


def digest_list(digests: Digests) -> list[bytes]:
    """The digests as Python values of 16 bytes each."""
    joined = digest_bytes(digests)
    return [joined[at : at + DIGEST_BYTES] for at in range(0, len(joined), DIGEST_BYTES)]


def digests_from_arrow(column: pa.FixedSizeBinaryArray) -> Digests:
    """S16[N] over the column's own memory; read only, no copy.

    Raises:
        ValueError: The column has nulls, or its values are not 16 bytes wide.
    """
    if column.type != pa.binary(DIGEST_BYTES) or column.null_count:
        raise ValueError(f"expected {DIGEST_BYTES}-byte digests without nulls, found {column.type}")
    if len(column) == 0:
        return np.empty(0, dtype=_DTYPE)
    start = column.offset * DIGEST_BYTES
    joined = memoryview(column.buffers()[1])[start : start + len(column) * DIGEST_BYTES]
    return np.frombuffer(joined, dtype=_DTYPE)


def digests_to_arrow(digests: Digests) -> pa.FixedSizeBinaryArray:
    """A FixedSizeBinary(16) column over the digests' memory; no copy where they are contiguous."""
    contiguous = np.ascontiguousarray(digests, dtype=_DTYPE)
    return pa.Array.from_buffers(pa.binary(DIGEST_BYTES), len(contiguous), [None, pa.py_buffer(contiguous)])


def halves(digests: Digests) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """uint64[N] twice: the leading and the trailing eight bytes of each, as numbers that order as they do."""
    both = np.ascontiguousarray(digests, dtype=_DTYPE).view(">u8").reshape(-1, 2).astype(np.uint64)
    return both[:, 0], both[:, 1]


def ascending(digests: Digests) -> Rows:
    """int64[N]: the rows in ascending order of their digests; equal ones keep their order."""
    high, low = halves(digests)
    order: Rows = np.argsort(high)
    ordered = high[order]
    tied = np.flatnonzero(ordered[1:] == ordered[:-1])
    if len(tied):
        tied = np.union1d(tied, tied + 1)
        rows = order[tied]
        order[tied] = rows[np.lexsort((rows, low[rows], high[rows]))]
    return order
