"""Search within one segment. `flat` is exact, `faiss` approximate."""

from embedmill.index.base import Index, Nearest, Selection
from embedmill.index.effort import build_graph
from embedmill.index.faiss import UNMEASURED, HnswIndex, require_faiss
from embedmill.index.flat import FlatIndex, best_of

__all__ = [
    "UNMEASURED",
    "FlatIndex",
    "HnswIndex",
    "Index",
    "Nearest",
    "Selection",
    "best_of",
    "build_graph",
    "require_faiss",
]
