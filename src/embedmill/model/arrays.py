"""Arrays whose memory is used again once nobody has them any more: what batches of images are written to."""

from __future__ import annotations

import weakref
from math import prod

import numpy as np
import numpy.typing as npt

MOST_FREE = 16
"""More than wait at once in a loop of four lanes."""
FLOAT_BYTES = 4


class Arrays:
    """Of float32. A batch has megabytes, which the kernel would clear, page by page, for each one anew."""

    def __init__(self) -> None:
        """Have no memory yet."""
        self._free: list[memoryview] = []

    def take(self, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """float32[shape] with any values; while it, or a view of it, is there, its memory is its own."""
        size_bytes = prod(shape) * FLOAT_BYTES
        memory = self._fitting(size_bytes)
        if memory is None:
            memory = np.empty(size_bytes, np.uint8).data
        flat = np.frombuffer(memory, np.float32, prod(shape))
        weakref.finalize(flat, _give_back, self._free, memory).atexit = False  # views of it keep it
        return flat.reshape(shape)

    def free(self) -> None:
        """Keep no memory that nobody has now, and none of what somebody has."""
        self._free = []

    def _fitting(self, size_bytes: int) -> memoryview | None:
        """Memory that is free, of which a shard's last batch needs a part; what is too small is let go of."""
        while self._free:  # threads may take the last one meanwhile
            try:
                memory = self._free.pop()
            except IndexError:
                break
            if size_bytes <= memory.nbytes:
                return memory
        return None


def _give_back(free: list[memoryview], memory: memoryview) -> None:
    """Called by whichever thread had the last view, in the midst of anything: so without a lock."""
    if len(free) < MOST_FREE:
        free.append(memory)
