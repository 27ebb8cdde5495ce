"""Small pictures, encoded; and what a decoding process makes of them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from embedmill.model.images import ImageDecoder, pixel_shape
from embedmill.spec import ImageInput
from embedmill.types import Reason, Rejection

RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)


def spec(**declared: Any) -> ImageInput:
    return ImageInput.model_validate(
        {"field": "photo", "resize": {"height": 4, "width": 4}, "scale": 1.0, "layout": "nhwc", **declared}
    )


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def plain(colour: Any, mode: str = "RGB", size: tuple[int, int] = (8, 8)) -> Image.Image:
    return Image.new(mode, size, colour)


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth enough that resampling is well defined, and different everywhere."""
    random = np.random.default_rng(seed)
    small = Image.fromarray(random.integers(0, 256, (9, 9, 3), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


class Viewer:
    """Decodes one picture at a time, in a process of its own."""

    def __init__(self) -> None:
        self.decoder = ImageDecoder()

    def found(self, data: bytes, declared: ImageInput | None = None) -> npt.NDArray[np.float32] | Rejection:
        (found,) = self.decoder.decode([data], declared or spec())
        return found if isinstance(found, Rejection) else found.pixels

    def made(self, data: bytes, declared: ImageInput | None = None) -> npt.NDArray[np.float32]:
        found = self.found(data, declared)
        assert not isinstance(found, Rejection), found
        assert found.dtype == np.float32
        assert found.shape == pixel_shape(declared or spec())
        return found

    def refused(self, data: bytes, declared: ImageInput | None = None) -> str:
        found = self.found(data, declared)
        assert isinstance(found, Rejection), "it was accepted"
        assert found.reason is Reason.IMAGE_INVALID
        assert found.detail.isprintable()
        return found.detail

    def colour(self, data: bytes, **declared: Any) -> tuple[int, int, int]:
        """Of the picture's middle, which should be plain."""
        red, green, blue = self.made(data, spec(**declared))[2, 2].round().astype(int).tolist()
        return red, green, blue
