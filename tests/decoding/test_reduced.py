"""JPEGs decoded at a reduced scale show what they show whole, within a tolerance; nothing else is touched."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw
from PIL.JpegImagePlugin import JpegImageFile
from tests.decoding import hostile
from tests.decoding.pictures import Viewer, encoded, noise, spec
from tests.decoding.profiles import press_with_green_ink_for_cyan, swapping_rgb

from embedmill.decoding.recipe import Recipe
from embedmill.decoding.reduced import reduce
from embedmill.model.images import ImageDecoder
from embedmill.spec import ImageInput
from embedmill.types import Rejection

ORIENTATION = 0x0112
REFUSED, DAMAGED = hostile.refused(), hostile.damaged()
MEAN, LARGEST = 8.0, 40.0
"""Differences of 255 that smooth pictures, and print, may have between both ways."""


def text() -> Image.Image:
    picture = Image.new("RGB", (240, 160), "white")
    pen = ImageDraw.Draw(picture)
    for line in range(8):
        pen.text((4, 20 * line), "Lorem ipsum 0123456789 " * 2, fill=(10, 20, 30 * line), font_size=18)
    return picture


def gradient(mode: str = "RGB") -> Image.Image:
    return Image.linear_gradient("L").resize((251, 173)).convert(mode)


def in_ink() -> Image.Image:
    return noise(240, 160).convert("CMYK")


PHOTOS = {
    "noise": encoded(noise(240, 160), "JPEG"),
    "odd sides": encoded(noise(253, 171), "JPEG"),
    "a gradient": encoded(gradient(), "JPEG"),
    "grey": encoded(gradient("L"), "JPEG"),
    "text": encoded(text(), "JPEG"),
    "text without subsampling": encoded(text(), "JPEG", subsampling=0),
    "progressive": encoded(noise(240, 160), "JPEG", progressive=True),
    "inks": encoded(in_ink(), "JPEG"),
    "inks of a press": encoded(in_ink(), "JPEG", icc_profile=press_with_green_ink_for_cyan()),
    "a profile": encoded(noise(240, 160), "JPEG", icc_profile=swapping_rgb()),
    "several pictures": encoded(noise(240, 160), "MPO", save_all=True, append_images=[noise(240, 160, 1)]),
    "poor": encoded(noise(240, 160), "JPEG", quality=20),
}
UNTOUCHED = {
    "a PNG": encoded(noise(240, 160)),
    "a WebP": encoded(noise(240, 160), "WEBP"),
    "a TIFF of JPEG": encoded(noise(240, 160), "TIFF", compression="jpeg"),
    "a JPEG that is hardly larger": encoded(noise(63, 63), "JPEG"),
    "a JPEG that is narrow": encoded(noise(240, 40), "JPEG"),
    "a tiny JPEG": encoded(noise(3, 2), "JPEG"),
    "a JPEG of one pixel": encoded(noise(1, 1), "JPEG"),
}


def declared(reduced: float | None = 1.0, **more: Any) -> ImageInput:
    tolerance = {} if reduced is None else {"reduced": reduced, "reduced_cosine": 0.9}
    return spec(**{"resize": {"height": 32, "width": 32}, **tolerance, **more})


def both(view: Viewer, data: bytes, **more: Any) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Reduced, and whole."""
    return view.made(data, declared(**more)), view.made(data, declared(None, **more))


@pytest.mark.parametrize("name", PHOTOS)
def test_a_reduced_photo_shows_what_the_whole_one_shows(view: Viewer, name: str) -> None:
    reduced, whole = both(view, PHOTOS[name])
    assert not np.array_equal(reduced, whole), "it was decoded whole"
    difference = np.abs(reduced - whole)
    assert difference.mean() <= MEAN
    assert difference.max() <= LARGEST


@pytest.mark.parametrize("name", UNTOUCHED)
def test_what_is_no_jpeg_or_not_large_enough_is_decoded_whole(view: Viewer, name: str) -> None:
    reduced, whole = both(view, UNTOUCHED[name])
    assert np.array_equal(reduced, whole)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(139, 101), (101, 139)])
def test_turned_photos_of_odd_sides_lie_where_they_lie_whole(
    view: Viewer, orientation: int, size: tuple[int, int]
) -> None:
    """1/8 leaves part of a pixel beyond the picture, where EXIF says; on the other side it is 24 and more."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    photo = encoded(noise(*size), "JPEG", quality=100, subsampling=0, exif=exif)
    for resize in ({"height": 12, "width": 9}, {"shorter": 12}):
        reduced, whole = both(view, photo, resize=resize, crop={"height": 9, "width": 9})
        assert np.abs(reduced - whole).mean() < MEAN


@pytest.mark.parametrize(
    ("size", "times", "orientation", "left"),
    [
        ((64, 64), 1.0, 1, (32, 32)),
        ((63, 64), 1.0, 1, (63, 64)),
        ((128, 128), 1.0, 1, (32, 32)),
        ((255, 257), 1.0, 1, (64, 65)),
        ((1000, 1000), 1.0, 1, (125, 125)),
        ((96, 96), 1.5, 1, (48, 48)),
        ((95, 95), 1.5, 1, (95, 95)),
        ((256, 256), 3.0, 1, (128, 128)),
        ((64, 128), 1.0, 6, (32, 64)),
    ],
)
def test_each_side_keeps_so_many_times_the_pixels_of_the_resize(
    size: tuple[int, int], times: float, orientation: int, left: tuple[int, int]
) -> None:
    recipe = Recipe((32, 32), None, "bicubic", (0, 0, 0), 1 << 20)
    with Image.open(io.BytesIO(encoded(noise(*size), "JPEG"))) as photo:
        assert isinstance(photo, JpegImageFile)
        frame = reduce(photo, recipe, times, orientation)
        photo.load()
    assert photo.size == left
    assert (frame is None) == (left == size)


def test_a_lying_photo_is_judged_as_it_stands(view: Viewer) -> None:
    """128 x 64 in the file, 64 x 128 to be seen, 20 x 60 wanted: only upright it must stay whole."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    photo = encoded(noise(128, 64), "JPEG", exif=exif)
    resize = {"height": 65, "width": 20}
    assert np.array_equal(*both(view, photo, resize=resize))
    assert not np.array_equal(*both(view, photo, resize={"height": 20, "width": 20}))


def test_pixels_are_counted_before_they_are_reduced(view: Viewer) -> None:
    photo = encoded(noise(240, 160), "JPEG")
    assert "240 x 160 pixels, more than max_pixels" in view.refused(photo, declared(max_pixels=38_399))


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_pixels_has_none_at_a_reduced_scale(view: Viewer, name: str) -> None:
    small = declared(resize={"height": 1, "width": 1})
    assert not view.refused(REFUSED[name], small).startswith("twice ")


@pytest.mark.parametrize("name", DAMAGED)
def test_flipped_bits_make_an_image_or_a_reason_at_a_reduced_scale(view: Viewer, name: str) -> None:
    found = view.found(DAMAGED[name], declared(resize={"height": 1, "width": 1}))
    assert not isinstance(found, Rejection) or not found.detail.startswith("twice ")


def test_a_pool_of_any_size_makes_the_same_pixels() -> None:
    files = [*PHOTOS.values(), *UNTOUCHED.values()]
    made = []
    for children in (1, 2, 3):
        decoder = ImageDecoder(children=children)
        found = decoder.decode(files, declared())
        made.append([None if isinstance(each, Rejection) else each.pixels.tobytes() for each in found])
        decoder.close()
    assert made[0] == made[1] == made[2]
    assert None not in made[0]


def test_pixels_are_written_where_they_are_wanted(view: Viewer) -> None:
    files = [PHOTOS["noise"], b"no image", PHOTOS["text"]]
    places = np.zeros((3, 32, 32, 3), np.float32)
    first, refused, last = view.decoder.decode(files, declared(), list(places))
    assert isinstance(refused, Rejection)
    assert not places[1].any()
    for place, made in ((places[0], first), (places[2], last)):
        assert not isinstance(made, Rejection)
        assert np.shares_memory(made.pixels, place)
    assert np.array_equal(places[0], view.made(PHOTOS["noise"], declared()))
