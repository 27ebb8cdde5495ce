"""From an image's bytes to the pixels of a recipe: open, decode, turn upright, colours, resize, crop.

Formats are an allow-list, and what a header promises is judged before anything is decoded. Of an animation
the first frame is used. This runs in a decoding process: it may crash, and what it imports it imports at
once, since such a process can open no file later.
"""

from __future__ import annotations

import io

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from embedmill.decoding.colours import Unusable, rgb
from embedmill.decoding.frames import SIDES
from embedmill.decoding.recipe import Recipe
from embedmill.decoding.reduced import Frame, reduce

PLUGINS = (
    JpegImagePlugin,
    MpoImagePlugin,  # JPEGs with more pictures than one; Pillow would import it when it meets the first
    PngImagePlugin,
    WebPImagePlugin,
    GifImagePlugin,
    BmpImagePlugin,
    TiffImagePlugin,
    AvifImagePlugin,
)
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
TIFF_COMPRESSIONS = ("raw", "packbits", "tiff_lzw", "tiff_deflate", "tiff_adobe_deflate", "jpeg")
"""What cameras, scanners and editors write. The others of libtiff are rarely used, and rarely looked at."""

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
THUMBNAIL_SAMPLES = 4
"""Pixels of a large image, along each side, that make one of the thumbnail; all take eight times as long."""

ORIENTATION_TAG = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each EXIF orientation (Exif 2.3, tag 0x0112)."""


def decoded(data: bytes | memoryview, recipe: Recipe) -> bytes | str:
    """The pixels, uint8[H, W, 3], and those of the thumbnail if one is wanted; or why there are none.

    Raises:
        MemoryError: The image needs more memory than this process may have.
    """
    try:
        with _opened(data, recipe.max_pixels) as image:
            frame = _reduced(image, recipe)
            image.load()
            whole = rgb(_upright(image), recipe.background)
            fitted = _fitted(whole, recipe, frame or Frame.of(whole)).tobytes()
            return fitted if recipe.thumbnail is None else fitted + _thumbnail(whole, recipe.thumbnail)
    except Unusable as error:
        return str(error)
    except UnidentifiedImageError:
        return f"none of {', '.join(FORMATS)}, or damaged at its start: begins with {bytes(data[:8])!r}"
    except (MemoryError, ImportError):  # neither is a fault of the image's bytes
        raise
    except Exception as error:  # noqa: BLE001 - on hostile bytes, decoders raise anything
        return f"{type(error).__name__}: {error}"


def _opened(data: bytes | memoryview, max_pixels: int) -> Image.Image:
    """An image of which the header alone was read."""
    if not data:
        raise Unusable("no bytes")
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    width, height = image.size
    if width * height > max_pixels:
        raise Unusable(f"{width} x {height} pixels, more than max_pixels: {max_pixels}")
    if image.format == "TIFF" and image.info.get("compression") not in TIFF_COMPRESSIONS:
        raise Unusable(f"a TIFF with compression {image.info.get('compression')}")
    return image


def _reduced(image: Image.Image, recipe: Recipe) -> Frame | None:
    """Reading a PNG's EXIF would read its pixels, and what is wrong with them would be told here alone."""
    if recipe.reduced is None or not isinstance(image, JpegImagePlugin.JpegImageFile):
        return None
    return reduce(image, recipe, recipe.reduced, _orientation(image))


def _upright(image: Image.Image) -> Image.Image:
    turn = UPRIGHT.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def _orientation(image: Image.Image) -> int:
    """As EXIF has it; a damaged EXIF block leaves a good image as it is."""
    try:
        found = image.getexif().get(ORIENTATION_TAG, 1)
        return found if found in UPRIGHT else 1
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - on hostile bytes, readers of EXIF raise anything
        return 1


def _fitted(image: Image.Image, recipe: Recipe, frame: Frame) -> Image.Image:
    """Resize and crop in one step: only what the crop keeps is computed.

    A 1 x 50,000,000 image whose shorter side should be 256 would otherwise be a bomb.
    """
    width, height = recipe.resized(frame.size)
    crop_height, crop_width = recipe.size
    left, top = round((width - crop_width) / 2), round((height - crop_height) / 2)
    kept = max(left, 0), max(top, 0), min(left + crop_width, width), min(top + crop_height, height)
    across, down = frame.width / width, frame.height / height
    box = (
        frame.left + kept[0] * across,
        frame.top + kept[1] * down,
        min(frame.left + kept[2] * across, image.width),
        min(frame.top + kept[3] * down, image.height),
    )
    part = image.resize((kept[2] - kept[0], kept[3] - kept[1]), FILTERS[recipe.filter], box=box)
    if part.size == (crop_width, crop_height):
        return part
    padded = Image.new("RGB", (crop_width, crop_height))
    padded.paste(part, (max(-left, 0), max(-top, 0)))
    return padded


def _thumbnail(image: Image.Image, side: int) -> bytes:
    """The whole image, no side longer than `side`, behind its height and width."""
    scale = min(1.0, side / max(image.size))
    width, height = (max(1, round(length * scale)) for length in image.size)
    samples = width * THUMBNAIL_SAMPLES, height * THUMBNAIL_SAMPLES
    if image.width > samples[0] and image.height > samples[1]:
        small = image.resize(samples, Image.Resampling.NEAREST).reduce(THUMBNAIL_SAMPLES)
    else:
        small = image.resize((width, height), Image.Resampling.BICUBIC)
    return SIDES.pack(height, width) + small.tobytes()
