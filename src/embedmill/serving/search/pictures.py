"""Pictures among an item's fields, told by their bytes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from embedmill.release.items import OWN_COLUMNS

if TYPE_CHECKING:
    from embedmill.release.reader import Release

LONGEST_START = 12
"""So many bytes tell what kind of image a file is."""
MEDIA_TYPES = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"BM": "image/bmp",
}


def picture_of(values: Iterable[Any]) -> tuple[str, bytes] | None:
    """Media type and bytes of the first value that is an image file; None if there is none."""
    for value in values:
        kind = media_type(value) if isinstance(value, bytes) else None
        if kind is not None:
            return kind, value
    return None


def has_pictures(release: Release) -> bool:
    """Whether any item has a picture: a thumbnail, or an image file among its fields.

    Of item files it looks at what `Searcher.read_items` has read, and at each beginning of a file but once.
    """
    if any(entry.rows for segment in release.content.segments for entry in segment.thumbnails):
        return True
    kinds = {field.name: field.type for field in release.item_schema if field.name not in OWN_COLUMNS}
    files = [
        name for name, kind in kinds.items() if pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    ]
    chunks = (chunk for name in files for chunk in release.searcher.column(name).chunks)
    starts = (pc.unique(pc.binary_slice(chunk, 0, LONGEST_START)) for chunk in chunks)
    return picture_of(start.as_py() for each in starts for start in each) is not None


def media_type(data: bytes) -> str | None:
    """What kind of image these bytes are, by how they begin; never SVG or HTML, which may hold scripts."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for start, kind in MEDIA_TYPES.items() if data.startswith(start)), None)
