"""JPEGs decoded at 1/2, 1/4 or 1/8 of their size, where a recipe allows it and needs no more pixels.

libjpeg then makes a smaller block of each 8 x 8 coefficients, and no larger picture exists at any time. Where
a side is no multiple of the scale, the picture ends within its last pixels: `Frame` says where.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

from PIL import Image, JpegImagePlugin

from embedmill.decoding.recipe import Recipe

SideT = TypeVar("SideT", int, float)

SCALES = (8, 4, 2)
"""Of libjpeg's 15 those that Pillow can ask for."""

SIDEWAYS = frozenset({5, 6, 7, 8})
"""EXIF orientations that exchange width and height."""
LEFT_WAS_AN_END, TOP_WAS_AN_END = frozenset({2, 3, 6, 7}), frozenset({3, 4, 7, 8})
"""Those that put a right or lower edge on the left, or at the top."""


@dataclass(frozen=True)
class Frame:
    """The whole picture among the pixels of an upright image.

    `size` is its width and height before it was reduced; the others are in the image's pixels.
    """

    size: tuple[int, int]
    left: float
    top: float
    width: float
    height: float

    @classmethod
    def of(cls, image: Image.Image) -> Frame:
        """All of an image that was not reduced."""
        return cls(image.size, 0, 0, image.width, image.height)


def reduce(
    image: JpegImagePlugin.JpegImageFile, recipe: Recipe, times: float, orientation: int
) -> Frame | None:
    """Let a JPEG of which the header alone was read be decoded as small as is allowed; None: it stays whole.

    Each side keeps at least `times` the pixels that the resize makes of it.
    """
    stored = image.size
    size = _upright(stored, orientation)
    wanted = [math.ceil(times * side) for side in recipe.resized(size)]
    fitting = (s for s in SCALES if all(a >= s * b for a, b in zip(size, wanted, strict=True)))
    scale = next(fitting, 1)
    if scale == 1 or image.draft(None, (stored[0] // scale, stored[1] // scale)) is None:
        return None
    across, down = _upright(image.size, orientation)
    width, height = _upright((stored[0] / scale, stored[1] / scale), orientation)
    return Frame(
        size,
        across - width if orientation in LEFT_WAS_AN_END else 0,
        down - height if orientation in TOP_WAS_AN_END else 0,
        width,
        height,
    )


def _upright(size: tuple[SideT, SideT], orientation: int) -> tuple[SideT, SideT]:
    return (size[1], size[0]) if orientation in SIDEWAYS else size
