"""The index seam: the nearest live vectors of one segment."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from embedmill.types import Mask, Rows, Vectors


class Nearest(NamedTuple):
    """`rows_QK` int64 in the segment, -1 where there are fewer than K; `scores_QK` float32, descending."""

    rows_QK: Rows
    scores_QK: npt.NDArray[np.float32]


class Index(Protocol):
    """Answers with inner products, which are cosines for normalised vectors."""

    def search(self, queries_QD: Vectors, k: int, live: Mask) -> Nearest:
        """The `k` best rows of each query among those where `live` bool[N] is true."""
        ...
