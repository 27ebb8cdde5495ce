"""Pictures among an item's fields, told by their bytes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

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


def media_type(data: bytes) -> str | None:
    """What kind of image these bytes are, by how they begin; never SVG or HTML, which may hold scripts."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for start, kind in MEDIA_TYPES.items() if data.startswith(start)), None)
