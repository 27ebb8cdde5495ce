"""Which pixels are wanted of an image: all that a decoding process knows of a model."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

BASE_BYTES = 512 << 20
BYTES_PER_PIXEL = 32
"""RGBA, its background, what they make together, a colour transform's output, and a decoder's own copies."""


@dataclass(frozen=True)
class Recipe:
    """Resize to (height, width), or the shorter side to a length; then crop to (height, width).

    `thumbnail`: pixels of the longer side of a small copy of the whole image, which comes out beside it.
    `reduced`: a JPEG may be decoded smaller, where so many times the resize's pixels are left of each side.
    """

    resize: tuple[int, int] | int
    crop: tuple[int, int] | None
    filter: str
    background: tuple[int, int, int]
    max_pixels: int
    thumbnail: int | None = None
    reduced: float | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of what comes out."""
        if self.crop is not None:
            return self.crop
        return (self.resize, self.resize) if isinstance(self.resize, int) else self.resize

    def resized(self, size: tuple[int, int]) -> tuple[int, int]:
        """Width and height that a whole image of this width and height has after the resize."""
        if not isinstance(self.resize, int):
            height, width = self.resize
            return width, height
        shorter, (width, height) = self.resize, size
        if width <= height:
            return shorter, max(1, int(shorter * height / width))
        return max(1, int(shorter * width / height)), shorter

    @property
    def memory_bytes(self) -> int:
        """Address space that suffices for an image of `max_pixels`, whatever its format."""
        return BASE_BYTES + BYTES_PER_PIXEL * self.max_pixels

    def to_bytes(self) -> bytes:
        """As it is sent."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Recipe:
        """What was sent."""
        sent = json.loads(data)
        lists = {name: tuple(value) for name, value in sent.items() if isinstance(value, list)}
        return cls(**(sent | lists))
