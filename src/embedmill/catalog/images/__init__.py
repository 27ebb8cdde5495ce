"""Images of a catalog: bytes, paths, object keys and URLs."""

from embedmill.catalog.images.base import is_missing
from embedmill.catalog.images.folder import MAX_IMAGE_BYTES
from embedmill.catalog.images.source import ImageSource

__all__ = ["MAX_IMAGE_BYTES", "ImageSource", "is_missing"]
