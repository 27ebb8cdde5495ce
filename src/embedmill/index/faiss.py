"""Approximate search by FAISS's HNSW graphs (extra `faiss`)."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from embedmill.errors import ReleaseCorrupt
from embedmill.extras import optional
from embedmill.index.base import Nearest

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from embedmill.index.base import Selection
    from embedmill.spec import IndexSpec
    from embedmill.types import Vectors


UNMEASURED = 128
"""The effort of graphs whose effort nobody has stated or measured."""

FEW_OPTIONS = 8
"""Of one selection, that are kept: most searches ask for one of a few numbers of hits."""


class HnswIndex:
    """A graph over one segment's vectors, in the order of its rows."""

    def __init__(self, index: Any, search_effort: int) -> None:
        """Search a loaded FAISS index with this efSearch."""
        self._index = index
        self._effort = search_effort

    @classmethod
    def build(cls, parts: Iterable[Vectors], dimension: int, spec: IndexSpec) -> HnswIndex:
        """Build from float32[N, D] arrays, in order.

        Raises:
            MissingExtra: FAISS is not installed.
        """
        faiss = _faiss()
        index = faiss.IndexHNSWFlat(dimension, spec.links, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = spec.build_effort
        built = cls(index, spec.search_effort or UNMEASURED)
        for part in parts:
            built.add(part)
        return built

    def add(self, vectors_ND: Vectors) -> None:
        """Append rows."""
        self._index.add(np.ascontiguousarray(vectors_ND))

    def with_effort(self, search_effort: int) -> HnswIndex:
        """The same graph, searched with this efSearch."""
        return HnswIndex(self._index, search_effort)

    @classmethod
    def load(cls, file: Path, search_effort: int) -> HnswIndex:
        """Map an index file: its vectors and links are read where a search comes by, and shared by processes.

        Raises:
            ReleaseCorrupt: It is none.
            MissingExtra: FAISS is not installed.
        """
        faiss = _faiss()
        try:
            return cls(faiss.read_index(str(file), faiss.IO_FLAG_MMAP_IFC), search_effort)
        except RuntimeError as error:
            raise ReleaseCorrupt(f"{file}: not a FAISS index: {str(error).splitlines()[0]}") from error

    def save(self, file: Path) -> None:
        """Write the index to a file."""
        _faiss().write_index(self._index, str(file))

    def search(self, queries_QD: Vectors, k: int, selection: Selection) -> Nearest:
        """The `k` best live rows, as far as the graph finds them."""
        k, live = min(k, self._index.ntotal), selection.count
        if not live:
            none = np.full((len(queries_QD), k), -1, dtype=np.int64)
            return Nearest(none, np.full(none.shape, -np.inf, dtype=np.float32))
        options = self._options_for(selection, max(self._effort, 2 * k))
        scores, rows = self._index.search(queries_QD, k, params=options)
        if min(rows[:, -1].tolist(), default=0) < 0:  # fewer were found than asked for
            scores[rows < 0] = -np.inf
        return Nearest(rows, scores)

    def _options_for(self, selection: Selection, effort: int) -> Any:
        """FAISS's options; making them takes longer than searching a small graph."""
        kept = selection.options
        options = kept.get(effort)
        if options is None:
            faiss, total, live = _faiss(), len(selection.live), selection.count
            selected = {} if live == total else {"sel": faiss.IDSelectorBitmap(selection.bits)}
            beam = min(effort * total // live, total)  # dead rows fill the beam as well
            options = faiss.SearchParametersHNSW(efSearch=beam, **selected)
            if len(kept) >= FEW_OPTIONS:
                kept.clear()  # and not the oldest one: searches in other threads look on
            kept[effort] = options
        return options


def require_faiss() -> None:
    """Find out before hours of work whether an index can be built.

    Raises:
        MissingExtra: FAISS is not installed.
    """
    _faiss()


def _faiss() -> ModuleType:
    with optional("FAISS, which HNSW indexes need,", "faiss", extra="faiss"):
        import faiss
    found: ModuleType = faiss
    return found
