"""The index seam: the nearest live vectors of one segment."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from embedmill.types import Mask, Rows, Vectors


class Nearest(NamedTuple):
    """`rows_QK` int64 in the segment, -1 where there are fewer than K; `scores_QK` float32, descending."""

    rows_QK: Rows
    scores_QK: npt.NDArray[np.float32]


class Selection:
    """The live rows of a segment. What searches ask of them is found out once, not in every search."""

    def __init__(self, live: Mask) -> None:
        """Select the rows where `live` bool[N] is true; it must not change any more."""
        self.live = live
        self.options: dict[int, Any] = {}
        """What a library is told of the selection, by effort: graphs keep it here."""

    @cached_property
    def count(self) -> int:
        """How many rows are live."""
        return int(np.count_nonzero(self.live))

    @cached_property
    def dead_rows(self) -> Rows:
        """int64[rows that are not live], ascending."""
        return np.flatnonzero(~self.live)

    @cached_property
    def bits(self) -> npt.NDArray[np.uint8]:
        """The mask, eight rows a byte; the first is the lowest bit."""
        return np.packbits(self.live, bitorder="little")


class Index(Protocol):
    """Answers with inner products, which are cosines for normalised vectors."""

    def search(self, queries_QD: Vectors, k: int, selection: Selection) -> Nearest:
        """The `k` best rows of each query among the live ones."""
        ...
