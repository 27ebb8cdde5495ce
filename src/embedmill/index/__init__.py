"""Search within one segment. `flat` is exact, `faiss` approximate."""

from embedmill.index.base import Index, Nearest, Selection
from embedmill.index.beside import Helper
from embedmill.index.effort import build_graph
from embedmill.index.faiss import UNMEASURED, HnswIndex, require_faiss
from embedmill.index.flat import Begun, FlatIndex, best_of

__all__ = [
    "UNMEASURED",
    "Begun",
    "FlatIndex",
    "Helper",
    "HnswIndex",
    "Index",
    "Nearest",
    "Selection",
    "best_of",
    "build_graph",
    "require_faiss",
]
