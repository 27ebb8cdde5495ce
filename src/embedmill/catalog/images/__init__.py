"""Images of a catalog: bytes, paths, object keys and URLs."""

from embedmill.catalog.images.source import ImageSource

__all__ = ["ImageSource"]
