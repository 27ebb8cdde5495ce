"""Image bytes become the pixels that a model declares: the same code for worker and server.

Formats are an allow-list, and a header that promises too many pixels is refused before decoding. Colour
profiles are ignored; of an animation the first frame is used.
"""

from __future__ import annotations

import importlib.metadata
import io
import warnings

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError, features

from embedmill.spec import ImageInput
from embedmill.types import Reason, Rejection

Pixels = npt.NDArray[np.float32]
"""float32[3, H, W] or float32[H, W, 3], as the input's `layout` says."""

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
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
WIDE_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N")
LONGEST_DETAIL = 200


def pixel_shape(spec: ImageInput) -> tuple[int, int, int]:
    """Shape of one image's pixels."""
    height, width = _size(spec)
    return (3, height, width) if spec.layout == "nchw" else (height, width, 3)


def pixels(data: bytes, spec: ImageInput) -> Pixels | Rejection:
    """Decode and prepare one image; bytes that are no acceptable image make a Rejection."""
    try:
        with warnings.catch_warnings(action="ignore"):  # a damaged image is told of once, by its rejection
            image = _decode(data, spec)
            return image if isinstance(image, Rejection) else _normalize(_fit(image, spec), spec)
    except MemoryError:  # the machine's trouble, not the image's
        raise
    except UnidentifiedImageError:
        return _invalid(f"none of {', '.join(FORMATS)}: begins with {data[:8]!r}")
    except Exception as error:  # noqa: BLE001 - on hostile bytes, decoders raise anything
        return _invalid(f"{type(error).__name__}: {error}")


def decoder_versions() -> dict[str, str]:
    """Versions of what decodes; they may move pixels, and so belong to a profile."""
    found = {"pillow": importlib.metadata.version("pillow")}
    for name in ("libjpeg_turbo", "webp"):
        version = features.version(name)
        if version:
            found[name] = version
    return found


def _invalid(detail: str) -> Rejection:
    line = (detail.splitlines() or [""])[0]
    return Rejection(Reason.IMAGE_INVALID, line[:LONGEST_DETAIL])


def _decode(data: bytes, spec: ImageInput) -> Image.Image | Rejection:
    """RGB, upright, over the background."""
    if not data:
        return _invalid("no bytes")
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    width, height = image.size
    if width * height > spec.max_pixels:
        return _invalid(f"{width} x {height} pixels, more than max_pixels: {spec.max_pixels}")
    image.load()
    return _rgb(_upright(image), spec.background)


def _upright(image: Image.Image) -> Image.Image:
    try:
        turn = UPRIGHT.get(image.getexif().get(ORIENTATION_TAG, 1))
    except Exception:  # noqa: BLE001 - a damaged EXIF block leaves a good image as it is
        return image
    return image if turn is None else image.transpose(turn)


def _rgb(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    if image.mode in WIDE_MODES:  # `convert` would clip 16 bits to 8, not scale them
        wide = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
        return Image.fromarray((wide // 257).astype(np.uint8), "L").convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        front = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", front.size, (*background, 255)), front).convert("RGB")
    return image.convert("RGB")


def _size(spec: ImageInput) -> tuple[int, int]:
    if spec.crop is not None:
        return spec.crop.height, spec.crop.width
    return spec.resize.height or 0, spec.resize.width or 0


def _fit(image: Image.Image, spec: ImageInput) -> Image.Image:
    """Resize and crop in one step: only what the crop keeps is computed.

    A 1 x 50,000,000 image whose shorter side should be 256 would otherwise be a bomb.
    """
    width, height = _resized(image, spec)
    crop_height, crop_width = _size(spec)
    left, top = round((width - crop_width) / 2), round((height - crop_height) / 2)
    kept = max(left, 0), max(top, 0), min(left + crop_width, width), min(top + crop_height, height)
    across, down = image.width / width, image.height / height
    box = (
        kept[0] * across,
        kept[1] * down,
        min(kept[2] * across, image.width),
        min(kept[3] * down, image.height),
    )
    part = image.resize((kept[2] - kept[0], kept[3] - kept[1]), FILTERS[spec.resize.filter], box=box)
    if part.size == (crop_width, crop_height):
        return part
    padded = Image.new("RGB", (crop_width, crop_height))
    padded.paste(part, (max(-left, 0), max(-top, 0)))
    return padded


def _resized(image: Image.Image, spec: ImageInput) -> tuple[int, int]:
    """Width and height that the whole image would have after the resize."""
    if spec.resize.shorter is None:
        return spec.resize.width or 0, spec.resize.height or 0
    shorter, (width, height) = spec.resize.shorter, image.size
    if width <= height:
        return shorter, max(1, int(shorter * height / width))
    return max(1, int(shorter * width / height)), shorter


def _normalize(image: Image.Image, spec: ImageInput) -> Pixels:
    mean: Pixels = np.array(spec.mean, np.float32)
    std: Pixels = np.array(spec.std, np.float32)
    values: Pixels = (np.asarray(image, np.float32) * np.float32(spec.scale) - mean) / std
    return np.ascontiguousarray(values.transpose(2, 0, 1)) if spec.layout == "nchw" else values
