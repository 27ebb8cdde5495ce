"""Search over all segments of a release: nearest vectors, merged, then the items that have them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embedmill.errors import ReleaseIncompatible, ReleaseMissing
from embedmill.index import FlatIndex, HnswIndex, Index, Nearest, best_of
from embedmill.release.items import FINGERPRINT, ID, OWN_COLUMNS
from embedmill.release.values import python_value
from embedmill.types import Hit

if TYPE_CHECKING:
    from embedmill.release.reader import Release
    from embedmill.spec.documents import Segment
    from embedmill.types import Mask, Rows, Vectors


class Searcher:
    """The indexes of a release, and which items share each vector."""

    def __init__(self, release: Release) -> None:
        """Load the indexes; vectors that no item refers to are masked."""
        self._release = release
        table, rows = release.table, release.item_rows
        self._items = np.argsort(rows, kind="stable")
        self._sorted_rows: Rows = rows[self._items]
        self._live: Mask = np.zeros(len(table), dtype=np.bool_)
        self._live[rows[rows >= 0]] = True
        self._shown = pa.Table.from_batches(release.items(), schema=release.item_schema)
        self._segments: list[tuple[int, int, Index]] = []
        start = 0
        for segment in release.content.segments:
            self._segments.append((start, segment.rows, self._load(segment)))
            start += segment.rows

    def search(self, text: str | None, *, vector: Vectors | None, item: Any, k: int) -> list[Hit]:
        """See `Release.search`."""
        if k < 1:
            raise ValueError(f"k is {k}; it must be at least 1")
        if sum(query is not None for query in (text, vector, item)) != 1:
            raise ValueError("give exactly one of text, vector and item")
        if text is not None:
            vector = self._release.encoder("query_text").encode_texts([text])[0]
        elif item is not None:
            vector = self._vector_of(item)
        if vector is None or vector.shape != (self._release.content.dimension,):
            shape = None if vector is None else vector.shape
            raise ReleaseIncompatible(
                f"the query has shape {shape}; vectors have {self._release.content.dimension} dimensions"
            )
        return self._hits(np.asarray(vector, dtype=np.float32)[None, :], k)

    def nearest(self, queries_QD: Vectors, k: int) -> Nearest:
        """The `k` nearest live vectors of each query; rows are those of `Release.table`."""
        found = []
        for start, rows, index in self._segments:
            nearest = index.search(queries_QD, k, self._live[start : start + rows])
            found.append((np.where(nearest.rows_QK < 0, -1, nearest.rows_QK + start), nearest.scores_QK))
        if not found:
            return FlatIndex([]).search(queries_QD, k, self._live)
        rows_QK, scores_QK = (np.concatenate(column, axis=1) for column in zip(*found, strict=True))
        return best_of(rows_QK, scores_QK, k)

    def _hits(self, query_1D: Vectors, k: int) -> list[Hit]:
        nearest = self.nearest(query_1D, k)
        hits: list[Hit] = []
        for row, score in zip(nearest.rows_QK[0], nearest.scores_QK[0], strict=True):
            if row < 0 or len(hits) >= k:
                break
            first, last = np.searchsorted(self._sorted_rows, [row, row + 1])
            hits += [self._hit(int(item), float(score)) for item in self._items[first : min(last, first + k)]]
        return hits[:k]

    def _hit(self, item: int, score: float) -> Hit:
        values = {name: python_value(self._shown.column(name)[item]) for name in self._shown.schema.names}
        return Hit(values[ID], score, {name: v for name, v in values.items() if name not in OWN_COLUMNS})

    def fingerprint_of(self, item: Any) -> bytes:
        """The fingerprint of the item with this id.

        Raises:
            ReleaseMissing: There is none.
        """
        at = self._place_of(item)
        if at < 0:
            raise ReleaseMissing(f"item {item!r} is not in release {self._release.name}")
        found: bytes = self._shown.column(FINGERPRINT)[at].as_py()
        return found

    def _place_of(self, item: Any) -> int:
        """Where the item with this id stands among all; -1 where there is none."""
        ids = self._shown.column(ID)
        try:
            return int(pc.index(ids, _id_scalar(item, ids.type)).as_py())
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            return -1

    def _vector_of(self, item: Any) -> Vectors:
        at = self._place_of(item)
        if at < 0 or self._release.item_rows[at] < 0:
            raise ReleaseMissing(f"item {item!r} is not in release {self._release.name}, or was empty")
        vector: Vectors = self._release.table.vectors(self._release.item_rows[at : at + 1])[0]
        return vector

    def _load(self, segment: Segment) -> Index:
        spec = self._release.content.pipeline.index
        if segment.index is not None:
            return HnswIndex.load(self._release.folder / segment.index.path, spec.search_effort)
        return FlatIndex([part.vectors_ND for part in self._release.segment_parts(segment)])


def _id_scalar(item: Any, kind: pa.DataType) -> pa.Scalar:
    """An id as its column has it; digits name a number too."""
    try:
        return pa.scalar(item, type=kind)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return pa.scalar(item).cast(kind)
