"""Image bytes become the pixels that a model declares: the same code for worker and server.

Decoding, resizing and cropping are done in processes of their own (`embedmill.decoding`); what comes back has
a known size, and is scaled and normalised here.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from embedmill.cores import cores
from embedmill.decoding.pool import DecoderPool, Fatal
from embedmill.decoding.process import Bitmap, Decoded, DecodingLimits
from embedmill.decoding.recipe import Recipe
from embedmill.spec import ImageInput
from embedmill.types import Reason, Rejection

Pixels = npt.NDArray[np.float32]
"""float32[3, H, W] or float32[H, W, 3], as the input's `layout` says."""


class Picture(NamedTuple):
    """Pixels of an image as the model wants them, and its thumbnail where such are made: a JPEG file."""

    pixels: Pixels
    thumbnail: bytes | None = None


THUMBNAIL_QUALITY = 80
"""WebP takes 50 times as long for an eighth less: decision note 0024."""

REVISION = "2"
"""Of what Embedmill does between bytes and pixels. 1 took the colours of every profile for sRGB."""

LONGEST_DETAIL = 200

LIBRARIES = ("libjpeg_turbo", "webp", "avif", "libtiff", "littlecms2")
"""Of Pillow, those that decide what becomes of an image."""


class ImageDecoder:
    """Decodes for any number of inputs and threads; processes start at the first image, or by `start`."""

    def __init__(
        self, *, children: int = 1, limits: DecodingLimits | None = None, thumbnails: int | None = None
    ) -> None:
        """Start nothing yet; `children` images are decoded at once.

        `thumbnails`: pixels of the longer side of those that are made on the way; None makes none.
        """
        self._pool = DecoderPool(children=children, limits=limits)
        self._thumbnails = thumbnails

    def decode(
        self, images: Sequence[bytes | memoryview], spec: ImageInput, into: Sequence[Pixels] | None = None
    ) -> list[Picture | Rejection]:
        """What the model sees of each image, in order; bytes that are no acceptable image make a Rejection.

        Args:
            images: Files.
            spec: What the model declares.
            into: For each image where its pixels are to be written, of `pixel_shape`: places in the array
                that the model gets. New arrays where absent.

        Raises:
            DecodersFailed: No process that decodes can be started.
        """
        recipe = replace(recipe_of(spec), thumbnail=self._thumbnails)
        places = [np.empty(pixel_shape(spec), np.float32) for _ in images] if into is None else into

        def finish(number: int, decoded: Decoded) -> Picture:
            small = None if decoded.thumbnail is None else jpeg(decoded.thumbnail)
            return Picture(normalized(decoded.pixels, spec, into=places[number]), small)

        found = self._pool.decode(images, recipe, finish)
        return [_refused(made) if isinstance(made, str) else made for made in found]

    def start(self, specs: Sequence[ImageInput], most: int | None = None) -> None:
        """Start the processes, or so many, before the first image, with memory for the largest of these.

        Raises:
            DecodersFailed: No process that decodes can be started.
        """
        recipes = [recipe_of(spec) for spec in specs]
        if recipes:
            self._pool.start(max(recipes, key=lambda recipe: recipe.memory_bytes), most)

    def limit(self, children: int) -> None:
        """Decode no more than so many images at once from now on."""
        self._pool.limit(children)

    def close(self) -> None:
        """End the processes; the next image would start new ones."""
        self._pool.close()


def decoders_beside(device: str, threads: int) -> int:
    """How many images are decoded at once beside a runtime; what comes out is the same for any number.

    On a CPU decoding takes the runtime's own cores: as many as it has threads. An accelerator leaves them to
    decoding, which is then the bottleneck: all of `cores()`.
    """
    if device == "cpu":
        return threads
    return max(threads, cores())


def recipe_of(spec: ImageInput) -> Recipe:
    """What a decoding process is told of an input."""
    resize = spec.resize
    return Recipe(
        resize=(resize.height or 0, resize.width or 0) if resize.shorter is None else resize.shorter,
        crop=None if spec.crop is None else (spec.crop.height, spec.crop.width),
        filter=resize.filter,
        background=spec.background,
        max_pixels=spec.max_pixels,
        reduced=spec.reduced,
    )


def pixel_shape(spec: ImageInput) -> tuple[int, int, int]:
    """Shape of one image's pixels."""
    height, width = recipe_of(spec).size
    return (3, height, width) if spec.layout == "nchw" else (height, width, 3)


def _refused(why: str) -> Rejection:
    return Rejection(Reason.IMAGE_INVALID, why[:LONGEST_DETAIL], lasting=not isinstance(why, Fatal))


def decoder_versions() -> dict[str, str]:
    """Versions of what decodes; they may move pixels, and so belong to a profile."""
    from importlib.metadata import version as installed

    from PIL import features  # here, for a loop over texts starts without

    found = {"pixels": REVISION, "pillow": installed("pillow")}
    for name in LIBRARIES:
        version = features.version(name)
        if version:
            found[name] = version
    return found


def decoders_among(libraries: Mapping[str, str]) -> str:
    """What decodes, of a profile's libraries, as one text: equal texts judge images alike."""
    names = ("pixels", "pillow", *LIBRARIES)
    return ", ".join(f"{name} {libraries[name]}" for name in names if name in libraries)


def jpeg(bitmap: Bitmap) -> bytes:
    """uint8[H, W, 3] as a small JPEG file."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(bitmap).save(stream, "JPEG", quality=THUMBNAIL_QUALITY, optimize=True)
    return stream.getvalue()


def normalized(decoded: Bitmap, spec: ImageInput, *, into: Pixels | None = None) -> Pixels:
    """uint8[H, W, 3] scaled, normalised, in the declared layout; written there if a place is given.

    A channel at a time: its values are then read once, and stay in the cache until they are done.
    """
    made: Pixels = np.empty(pixel_shape(spec), np.float32) if into is None else into
    for channel in range(3):
        plane = made[channel] if spec.layout == "nchw" else made[:, :, channel]
        np.multiply(decoded[:, :, channel], np.float32(spec.scale), out=plane)
        plane -= np.float32(spec.mean[channel])
        plane /= np.float32(spec.std[channel])
    return made
