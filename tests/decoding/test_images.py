"""Image bytes become the declared pixels; what is no acceptable image becomes a rejection."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.decoding.pictures import BLACK, BLUE, GREEN, RED, WHITE, Viewer, encoded, noise, plain, spec

from embedmill.decoding.images import FORMATS
from embedmill.types import Rejection

ORIENTATION = 0x0112


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_of_the_allow_list_is_read(view: Viewer, kind: str) -> None:
    colour = view.made(encoded(plain(RED), kind), spec()).mean(axis=(0, 1))
    np.testing.assert_allclose(colour, RED, atol=3)


@pytest.mark.parametrize("kind", ["EPS", "PDF", "ICO", "TGA", "JPEG2000", "PPM"])
def test_other_formats_are_refused_though_pillow_could(view: Viewer, kind: str) -> None:
    assert "none of JPEG, " in view.refused(encoded(plain(RED), kind))


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("L", 128, (128, 128, 128)),
        ("1", 1, WHITE),
        ("LA", (0, 0), WHITE),
        ("RGBA", (255, 0, 0, 255), RED),
        ("RGBA", (255, 0, 0, 0), WHITE),
        ("RGBA", (255, 0, 0, 51), (255, 204, 204)),
        ("I;16", 65535, WHITE),
        ("I;16", 32896, (128, 128, 128)),
        ("I;16", 256, BLACK),
    ],
)
def test_every_mode_becomes_rgb_over_the_background(
    view: Viewer, mode: str, colour: Any, expected: Any
) -> None:
    assert view.made(encoded(plain(colour, mode)), spec())[0, 0].tolist() == list(expected)


def test_the_background_is_the_declared_one(view: Viewer) -> None:
    transparent = encoded(plain((9, 9, 9, 0), "RGBA"))
    assert view.made(transparent, spec(background=BLUE))[0, 0].tolist() == list(BLUE)


def test_a_transparent_palette_colour_shows_the_background(view: Viewer) -> None:
    image = plain(0, "P")
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.paste(1, (4, 0, 8, 8))
    row = view.made(encoded(image, transparency=0), spec(resize={"height": 8, "width": 8}))[0]
    assert row[0].tolist() == list(WHITE)
    assert row[7].tolist() == list(RED)


def test_cmyk_jpegs_are_read(view: Viewer) -> None:
    colour = view.made(encoded(plain((255, 0, 255, 0), "CMYK"), "JPEG", quality=100), spec()).mean(
        axis=(0, 1)
    )
    np.testing.assert_allclose(colour, GREEN, atol=4)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_used(view: Viewer, kind: str) -> None:
    options: dict[str, Any] = {"save_all": True, "append_images": [plain(BLUE)], "duration": 100}
    options |= {"lossless": True} if kind == "WEBP" else {}
    assert view.made(encoded(plain(RED), kind, **options), spec())[0, 0].tolist() == list(RED)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_turned_as_their_exif_orientation_says(view: Viewer, orientation: int) -> None:
    upright = noise(12, 8)
    turns = {
        1: upright,
        2: upright.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: upright.transpose(Image.Transpose.ROTATE_180),
        4: upright.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: upright.transpose(Image.Transpose.TRANSPOSE),
        6: upright.transpose(Image.Transpose.ROTATE_90),
        7: upright.transpose(Image.Transpose.TRANSVERSE),
        8: upright.transpose(Image.Transpose.ROTATE_270),
    }
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored = encoded(turns[orientation], exif=exif)
    declared = spec(resize={"height": 8, "width": 12})
    assert (view.made(stored, declared) == np.asarray(upright)).all()


def test_a_damaged_exif_block_leaves_a_good_image_as_it_is(view: Viewer) -> None:
    photo = encoded(plain(RED), "JPEG", exif=b"Exif\x00\x00MM\x00\x2a\xff\xff\xff\xff")
    np.testing.assert_allclose(view.made(photo, spec()).mean(axis=(0, 1)), RED, atol=3)


@pytest.mark.parametrize("size", [(40, 20), (20, 40), (33, 57), (8, 8), (100, 17)])
@pytest.mark.parametrize("kind", ["bilinear", "bicubic", "lanczos"])
def test_resize_and_crop_in_one_step_are_what_they_are_in_two(
    view: Viewer, size: tuple[int, int], kind: str
) -> None:
    image = noise(*size)
    width, height = (max(16, int(side * 16 / min(size))) for side in size)
    whole = image.resize((width, height), Image.Resampling[kind.upper()])
    left, top = round((whole.width - 12) / 2), round((whole.height - 12) / 2)
    two_steps = np.asarray(whole.crop((left, top, left + 12, top + 12)), np.float32)
    declared = spec(resize={"shorter": 16, "filter": kind}, crop={"height": 12, "width": 12})
    assert np.abs(view.made(encoded(image), declared) - two_steps).max() <= 2


def test_a_crop_larger_than_the_image_is_padded_with_black_around_it(view: Viewer) -> None:
    declared = spec(resize={"height": 2, "width": 4}, crop={"height": 4, "width": 6})
    found = view.made(encoded(plain(WHITE)), declared)[:, :, 0]
    expected = np.zeros((4, 6))
    expected[1:3, 1:5] = 255
    assert (found == expected).all()


def test_a_crop_may_cut_one_side_and_pad_the_other(view: Viewer) -> None:
    declared = spec(resize={"height": 8, "width": 2}, crop={"height": 4, "width": 4})
    found = view.made(encoded(plain(WHITE)), declared)[:, :, 0]
    assert found[:, 1:3].min() == 255
    assert found[:, [0, 3]].max() == 0


@pytest.mark.parametrize("size", [(1, 20_000), (20_000, 1)])
def test_a_sliver_is_no_bomb(view: Viewer, size: tuple[int, int]) -> None:
    """Its shorter side at 256 would make the other one 5,120,000."""
    declared = spec(resize={"shorter": 256}, crop={"height": 224, "width": 224})
    assert (view.made(encoded(plain(RED, size=size)), declared) == RED).all()


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_pixels_are_scaled_then_normalised_in_the_declared_layout(view: Viewer, layout: str) -> None:
    declared = spec(scale=1 / 255, mean=(0.5, 0.4, 0.3), std=(0.5, 0.2, 0.1), layout=layout)
    found = view.made(encoded(plain((255, 102, 0))), declared)
    channels = found if layout == "nchw" else found.transpose(2, 0, 1)
    for channel, expected in zip(channels, (1.0, 0.0, -3.0), strict=True):
        np.testing.assert_allclose(channel, expected, atol=1e-6)


def test_an_image_with_too_many_pixels_is_refused_by_its_header(view: Viewer) -> None:
    assert view.refused(encoded(plain(RED)), spec(max_pixels=63)) == "8 x 8 pixels, more than max_pixels: 63"
    assert not isinstance(view.found(encoded(plain(RED)), spec(max_pixels=64)), Rejection)


def test_a_bomb_is_refused_before_it_is_decoded(view: Viewer) -> None:
    """A header of 50,000 x 50,000 and nothing behind it."""
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    framed = struct.pack(">I", len(header)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    assert "pixels" in view.refused(b"\x89PNG\r\n\x1a\n" + framed + b"\x00\x00\x00\x00IDAT")


@pytest.mark.parametrize("kind", FORMATS)
def test_a_cut_file_is_refused(view: Viewer, kind: str) -> None:
    whole = encoded(noise(64, 64), kind)
    view.refused(whole[: len(whole) // 2])
    view.refused(whole[:20])


def test_what_is_no_image_is_refused(view: Viewer) -> None:
    assert view.refused(b"") == "no bytes"
    assert "none of JPEG, " in view.refused(b"<html>not found</html>")


@settings(max_examples=200)
@given(st.sampled_from(FORMATS), st.data())
def test_damaged_bytes_never_raise(view: Viewer, kind: str, data: st.DataObject) -> None:
    damaged = bytearray(encoded(noise(16, 16), kind))
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    found = view.found(bytes(damaged), spec())
    assert isinstance(found, Rejection) or found.shape == (4, 4, 3)
