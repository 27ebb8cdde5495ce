"""Search within one segment. `flat` is exact, `faiss` approximate."""

from embedmill.index.base import Index, Nearest, Selection
from embedmill.index.faiss import HnswIndex, require_faiss
from embedmill.index.flat import FlatIndex, best_of

__all__ = ["FlatIndex", "HnswIndex", "Index", "Nearest", "Selection", "best_of", "require_faiss"]
