"""Search over all segments of a release: nearest vectors, merged, then the items that have them."""

from __future__ import annotations

import itertools
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embedmill.catalog.where import compile_where
from embedmill.cores import cores
from embedmill.errors import ReleaseIncompatible, ReleaseMissing
from embedmill.index import (
    UNMEASURED,
    Begun,
    FlatIndex,
    Helper,
    HnswIndex,
    Index,
    Nearest,
    Selection,
    best_of,
)
from embedmill.release.items import FINGERPRINT, ID, OWN_COLUMNS
from embedmill.types import Hit

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from embedmill.release.reader import Release
    from embedmill.spec.documents import Content, Segment
    from embedmill.types import Mask, Rows, Vectors

FEW = 20_000
"""So many vectors that a filter leaves are compared one by one: a graph finds few among many badly."""


class Searcher:
    """The indexes of a release, and which items share each vector."""

    def __init__(self, release: Release) -> None:
        """Load the indexes; vectors that no item refers to are masked."""
        self._release = release
        self._dimension = release.content.dimension
        table, rows = release.table, release.item_rows
        self._rows = release.item_table()
        self._names = [ID, *(name for name in release.item_schema.names if name not in OWN_COLUMNS)]
        # Memoryviews give Python numbers, faster than arrays.
        self._items = np.argsort(rows, kind="stable").data
        items_each = np.bincount(rows + 1, minlength=len(table) + 1)  # the first: items without a vector
        self._ends = np.cumsum(items_each).data
        self.live: Mask = items_each[1:] > 0
        """bool[all rows of `Release.table`]: those that an item refers to."""
        self._segments: list[tuple[int, int, Index]] = []
        start = 0
        for segment in release.content.segments:
            self._segments.append((start, segment.rows, self._load(segment)))
            start += segment.rows
        self._segments.sort(key=lambda each: isinstance(each[2], FlatIndex))  # graphs are searched first
        self._exact = {
            number: index
            for number, (_, _, index) in enumerate(self._segments)
            if isinstance(index, FlatIndex) and index.small
        }
        beside_graphs = 0 < len(self._exact) < len(self._segments)
        self._helper = Helper() if beside_graphs and cores() > 1 else None
        self._selected = self._selections(self.live)

    def read_items(self) -> None:
        """Read now what is shown of items. Else searches do that, each for the files that its hits are in."""
        self._shown  # noqa: B018 - reads them

    def column(self, name: str) -> pa.ChunkedArray:
        """A display column of all items, as `read_items` reads it."""
        return self._shown.column(name)

    @cached_property
    def _shown(self) -> pa.Table:
        """All item rows."""
        return self._rows.whole()

    def search(
        self, text: str | None, *, vector: Vectors | Sequence[float] | None, item: Any, k: int
    ) -> list[Hit]:
        """See `Release.search`."""
        if sum(query is not None for query in (text, vector, item)) != 1:
            raise ValueError("give exactly one of text, vector and item")
        if text is not None and not isinstance(text, str):
            raise ReleaseIncompatible(f"the text is {text!r}, which is none", hint="give it as a str")
        if text is not None and not text.strip():
            raise ReleaseIncompatible("the text is empty", hint="nothing is near to it; give one with words")
        if text is not None:
            query = self._release.encoder("query_text").encode_texts([text])[0]
        else:
            query = self.vector_of(item) if vector is None else _query(vector)
        return self.hits(query, k)

    def hits(
        self, vector: Vectors, k: int, *, among: Mask | None = None, lowest: float | None = None
    ) -> list[Hit]:
        """The `k` items nearest to a vector float32[D].

        Args:
            vector: The query.
            k: How many hits, at least 1.
            among: bool[all items], as `where` makes it: only these items.
            lowest: No hit has a lower score.

        Raises:
            ReleaseIncompatible: The vector has another length than those of the release.
            ValueError: `k` is no whole number of at least 1.
        """
        if not _is_count(k):
            raise ValueError(f"k is {k!r}; it must be a whole number of at least 1")
        if vector.shape != (self._dimension,):
            raise ReleaseIncompatible(
                f"the query has shape {vector.shape}; vectors have {self._dimension} dimensions"
            )
        query_1D = np.asarray(vector, dtype=np.float32)[None, :]
        ranked = (
            self._ranked(query_1D, k, self._selected)
            if among is None
            else self._ranked_among(query_1D, k, among)
        )
        if lowest is not None:
            least = float(np.float32(lowest))  # as exact as scores are
            ranked = [(row, score) for row, score in ranked if score >= least]
        return self._hits(self._placed(ranked, k, among))

    def nearest(self, queries_QD: Vectors, k: int) -> Nearest:
        """The `k` nearest live vectors of each query; rows are those of `Release.table`."""
        rows_QK, scores_QK = [], []
        for start, (rows, scores) in self._of_segments(queries_QD, k, self._selected):
            rows_QK.append(np.where(rows < 0, -1, rows + start))
            scores_QK.append(scores)
        if not rows_QK:
            return FlatIndex([]).search(queries_QD, k, Selection(self.live))
        return best_of(np.concatenate(rows_QK, axis=1), np.concatenate(scores_QK, axis=1), k)

    def where(self, text: str) -> Mask:
        """bool[all items]: those for which a filter in SQL's WHERE syntax over display columns is true.

        Raises:
            SpecError: It is no filter, or names a column that the release does not have.
        """
        shown = self._shown.drop_columns(list(OWN_COLUMNS[1:]))
        compiled = compile_where(text, shown.schema, named="where")
        masks = [compiled.mask(batch) for batch in shown.to_batches()]
        return np.concatenate([np.zeros(0, dtype=np.bool_), *masks])

    def item(self, item: Any) -> dict[str, Any]:
        """The `id` and display columns of an item.

        Raises:
            ReleaseMissing: No item has that id.
        """
        (hit,) = self._hits([(self._place(item), 0.0)])
        return {ID: hit.id, **hit.fields}

    def vector_of(self, item: Any) -> Vectors:
        """float32[D] of an item.

        Raises:
            ReleaseMissing: No item has that id, or it was empty.
        """
        at = self._place(item)
        if self._release.item_rows[at] < 0:
            raise ReleaseMissing(f"item {item!r} of release {self._release.name} was empty: it has no vector")
        vector: Vectors = self._release.table.vectors(self._release.item_rows[at : at + 1])[0]
        return vector

    def fingerprint_of(self, item: Any) -> bytes:
        """The fingerprint of the item with this id.

        Raises:
            ReleaseMissing: No item has that id.
        """
        found: bytes = self._shown.column(FINGERPRINT)[self._place(item)].as_py()
        return found

    def _selections(self, live: Mask) -> list[Selection]:
        """The live rows of each segment."""
        return [Selection(live[start : start + rows]) for start, rows, _ in self._segments]

    def _of_segments(
        self, queries_QD: Vectors, k: int, selected: Sequence[Selection]
    ) -> Iterator[tuple[int, Nearest]]:
        """The first row of each segment, and what is found there."""
        begun = self._begun(queries_QD, k, selected)
        for number, ((start, _, index), selection) in enumerate(zip(self._segments, selected, strict=True)):
            here = begun.get(number)
            yield start, here.end() if here else index.search(queries_QD, k, selection)

    def _begun(self, queries_QD: Vectors, k: int, selected: Sequence[Selection]) -> dict[int, Begun]:
        """The segments that the helper searches for one query while this thread walks graphs.

        None where it is busy: another thread's search has it.
        """
        if self._helper is None or len(queries_QD) != 1:
            return {}
        begun = {
            number: index.begin(queries_QD, k, selected[number]) for number, index in self._exact.items()
        }
        return begun if self._helper.begin(list(begun.values())) else {}

    def _ranked(self, query_1D: Vectors, k: int, selected: Sequence[Selection]) -> list[tuple[int, float]]:
        """What `nearest` finds for one query, as rows and scores; of a few, lists cost less than arrays."""
        found = [
            (-score, start + row)
            for start, (rows, scores) in self._of_segments(query_1D, k, selected)
            for row, score in zip(rows[0].tolist(), scores[0].tolist(), strict=True)
            if row >= 0 and score != -np.inf
        ]
        found.sort()
        return [(row, -negated) for negated, row in found[:k]]

    def _ranked_among(self, query_1D: Vectors, k: int, among: Mask) -> list[tuple[int, float]]:
        wanted = self._release.item_rows[among]
        live: Mask = np.zeros(len(self.live), dtype=np.bool_)
        live[wanted[wanted >= 0]] = True
        rows: Rows = np.flatnonzero(live)
        if len(rows) > FEW:
            return self._ranked(query_1D, k, self._selections(live))
        everything = Selection(np.ones(len(rows), dtype=np.bool_))
        near = FlatIndex([self._release.table.vectors(rows)]).search(query_1D, k, everything)
        few, scores = near.rows_QK[0], near.scores_QK[0]
        return list(zip(rows[few[few >= 0]].tolist(), scores[few >= 0].tolist(), strict=True))

    def _placed(
        self, ranked: Sequence[tuple[int, float]], k: int, among: Mask | None
    ) -> list[tuple[int, float]]:
        """The first `k` items that have the vectors of these rows, each with its score."""
        found: list[tuple[int, float]] = []
        for row, score in ranked:
            start, end, left = self._ends[row], self._ends[row + 1], k - len(found)
            if not left:
                break
            if among is None:
                found += [(self._items[at], score) for at in range(start, min(end, start + left))]
            else:
                sharing = np.asarray(self._items[start:end])
                found += [(place, score) for place in sharing[among[sharing]][:left].tolist()]
        return found

    def _hits(self, placed: Sequence[tuple[int, float]]) -> list[Hit]:
        ids, *columns = self._rows.columns([place for place, _ in placed], self._names)
        shown = zip(*columns, strict=True) if columns else itertools.repeat(())
        names = self._names[1:]
        return [
            Hit(identifier, score, dict(zip(names, cells, strict=True)))
            for (_, score), identifier, cells in zip(placed, ids, shown, strict=False)
        ]

    def _place(self, item: Any) -> int:
        ids = self._shown.column(ID)
        try:
            at = int(pc.index(ids, _id_scalar(item, ids.type)).as_py())
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            at = -1
        if at < 0:
            lost = self._release.content.quarantined
            hint = (
                f"it may be of the {lost:,} in quarantine: `embedmill release show --quarantine` lists them"
            )
            raise ReleaseMissing(
                f"item {item!r} is not in release {self._release.name}", hint=hint if lost else ""
            )
        return at

    def _load(self, segment: Segment) -> Index:
        if segment.index is not None:
            effort = search_effort(self._release.content, segment)
            return HnswIndex.load(self._release.folder / segment.index.path, effort)
        return FlatIndex([part.vectors_ND for part in self._release.segment_parts(segment)])


def _is_count(k: object) -> bool:
    return isinstance(k, int | np.integer) and int(k) >= 1


def _query(vector: Vectors | Sequence[float]) -> Vectors:
    """float32[D] of a caller's numbers.

    Raises:
        ReleaseIncompatible: They are none, or not all finite in float32.
    """
    try:
        with np.errstate(over="ignore"):
            found: Vectors = np.asarray(vector, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ReleaseIncompatible(f"the query is no vector of numbers: {error}") from None
    wrong = np.flatnonzero(~np.isfinite(found.reshape(-1)))
    if len(wrong):
        value = float(found.reshape(-1)[wrong[0]])
        raise ReleaseIncompatible(
            f"the query's value at dimension {wrong[0]} is {value}, and no item is near that",
            hint="every value must be finite, in float32",
        )
    return found


def search_effort(content: Content, segment: Segment) -> int:
    """With which effort the index of a segment is searched: as stated, or as measured when it was built."""
    return content.pipeline.index.search_effort or segment.search_effort or UNMEASURED


def _id_scalar(item: Any, kind: pa.DataType) -> pa.Scalar:
    """An id as its column has it; digits name a number too."""
    try:
        return pa.scalar(item, type=kind)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return pa.scalar(item).cast(kind)
