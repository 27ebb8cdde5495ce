"""Search within one segment. `flat` is exact, `faiss` approximate."""

from embedmill.index.base import Index, Nearest, Selection
from embedmill.index.beside import Helper, Scores
from embedmill.index.effort import build_graph
from embedmill.index.faiss import UNMEASURED, HnswIndex, require_faiss
from embedmill.index.flat import FlatIndex, best_of

__all__ = [
    "UNMEASURED",
    "FlatIndex",
    "Helper",
    "HnswIndex",
    "Index",
    "Nearest",
    "Scores",
    "Selection",
    "best_of",
    "build_graph",
    "require_faiss",
]
