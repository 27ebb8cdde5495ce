"""Every mode that a decoder gives becomes RGB of 8 bits, in sRGB, over a background."""

from __future__ import annotations

import functools
import io
from dataclasses import dataclass

from PIL import Image, ImageChops, ImageCms, ImagePalette

PALETTES = ImagePalette
"""Pillow imports it when it meets the first palette; a decoding process could not."""

WIDE_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N")
SEE_THROUGH_MODES = ("RGBA", "RGBa", "LA", "La", "PA")
MODES_OF_SPACE = {
    "RGB": ("RGB", "RGBA", "RGBa", "RGBX", "P", "PA"),
    "GRAY": ("1", "L", "LA", "La"),
    "CMYK": ("CMYK",),
}
"""A profile counts only for images of its own kind of colour; others ignore it, as browsers do."""

PLAIN_MODE = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
LARGEST_PROFILE_BYTES = 8 << 20
"""Profiles of printing presses take up to 3 MB."""


class Unusable(Exception):
    """The image is none that can be embedded; the message is for people."""


@dataclass(frozen=True)
class _Profile:
    """How colours of one space become sRGB."""

    space: str
    transform: ImageCms.ImageCmsTransform


def rgb(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """RGB of 8 bits, in sRGB; where the image is transparent, the background shows.

    Raises:
        Unusable: Pixels are floats, for which there is no agreed white.
    """
    if image.mode == "F":
        raise Unusable("pixels are floats")
    shown = _in_srgb(_eight_bits(_right_way_round(image)))
    if not _is_see_through(shown):
        return shown if shown.mode == "RGB" else shown.convert("RGB")  # which would copy it
    front = shown.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", front.size, (*background, 255)), front).convert("RGB")


def _right_way_round(image: Image.Image) -> Image.Image:
    """Pillow takes every CMYK JPEG for an inverted one; those without Adobe's marker are not.

    libjpeg.txt, "CMYK and YCCK": inverted is what Photoshop writes.
    """
    if image.mode == "CMYK" and image.format in ("JPEG", "MPO") and "adobe" not in image.info:
        return _told(ImageChops.invert(image), image)
    return image


def _eight_bits(image: Image.Image) -> Image.Image:
    if image.mode not in WIDE_MODES:
        return image
    scaled = image.convert("I").point(lambda value: value * (1 / 257) + 0.5 / 257)  # cut off: value // 257
    return _told(scaled.convert("L"), image, but="transparency")  # clips; alone it would not scale


def _told(made: Image.Image, of: Image.Image, but: str = "") -> Image.Image:
    made.info = {key: value for key, value in of.info.items() if key != but}
    return made


def _is_see_through(image: Image.Image) -> bool:
    return image.mode in SEE_THROUGH_MODES or "transparency" in image.info


def _in_srgb(image: Image.Image) -> Image.Image:
    """By the image's colour profile; without a usable one its colours are taken for sRGB."""
    data = image.info.get("icc_profile")
    profile = _profile(data) if isinstance(data, bytes) and len(data) <= LARGEST_PROFILE_BYTES else None
    if profile is None or image.mode not in MODES_OF_SPACE[profile.space]:
        return image
    try:
        colours = profile.transform.apply(image.convert(PLAIN_MODE[profile.space]))
    except (ImageCms.PyCMSError, ValueError):
        return image
    colours.info = {}
    if _is_see_through(image):
        colours.putalpha(image.convert("RGBA").getchannel("A"))
    return colours


@functools.lru_cache(maxsize=8)
def _profile(data: bytes) -> _Profile | None:
    """None: damaged, of another use, or sRGB itself.

    Catalogs have few distinct ones, and a transform takes 5 ms to make.
    """
    try:
        read = ImageCms.ImageCmsProfile(io.BytesIO(data))
        space = read.profile.xcolor_space.strip()
        if space not in MODES_OF_SPACE or "sRGB" in ImageCms.getProfileDescription(read):
            return None
        mode = PLAIN_MODE[space]
        return _Profile(space, ImageCms.ImageCmsTransform(read, _srgb(), mode, "RGB"))
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


@functools.lru_cache(maxsize=1)
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
