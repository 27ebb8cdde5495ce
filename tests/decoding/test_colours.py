"""Colours of every kind of file come out as sRGB, whatever the file keeps them in."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.decoding.pictures import BLUE, GREEN, RED, WHITE, Viewer, encoded, noise, plain, spec
from tests.decoding.profiles import linear_grey, press_with_green_ink_for_cyan, swapping_rgb

from embedmill.decoding.colours import rgb
from embedmill.decoding.images import FORMATS

LOSSLESS: dict[str, dict[str, Any]] = {"PNG": {}, "WEBP": {"lossless": True}, "TIFF": {}}
RGB_WITH_PROFILES = {**LOSSLESS, "JPEG": {"quality": 100}, "AVIF": {"quality": 100}}


@pytest.mark.parametrize("kind", RGB_WITH_PROFILES)
def test_a_profile_says_what_the_numbers_mean(view: Viewer, kind: str) -> None:
    photo = encoded(plain(RED), kind, icc_profile=swapping_rgb(), **RGB_WITH_PROFILES[kind])
    np.testing.assert_allclose(view.colour(photo), BLUE, atol=12)


@pytest.mark.parametrize("kind", LOSSLESS)
def test_a_profile_that_calls_itself_srgb_moves_no_bit(view: Viewer, kind: str) -> None:
    image = noise(12, 12)
    profiled = encoded(image, kind, icc_profile=swapping_rgb("sRGB IEC61966-2.1"), **LOSSLESS[kind])
    assert (view.made(profiled) == view.made(encoded(image))).all()


def test_a_grey_profile_counts_for_grey_images(view: Viewer) -> None:
    photo = encoded(plain(55, "L"), icc_profile=linear_grey())
    np.testing.assert_allclose(view.colour(photo), (128, 128, 128), atol=2)


def test_a_grey_profile_counts_for_16_bits_too(view: Viewer) -> None:
    photo = encoded(plain(55 * 257, "I;16"), icc_profile=linear_grey())
    np.testing.assert_allclose(view.colour(photo), (128, 128, 128), atol=2)


def test_every_value_of_16_bits_becomes_the_one_of_8_bits_below_it() -> None:
    values = np.arange(1 << 16, dtype=np.uint16).reshape(256, 256)
    for mode, stored in (("I;16", "<u2"), ("I;16L", "<u2"), ("I;16B", ">u2"), ("I;16N", "=u2")):
        image = Image.frombytes(mode, (256, 256), values.astype(stored).tobytes())
        assert (np.asarray(rgb(image, WHITE))[:, :, 0] == values // 257).all(), mode


def test_values_beyond_16_bits_are_black_or_white() -> None:
    values = np.array([[-(1 << 31), -1, 0, 65535, 65536, 1 << 30, (1 << 31) - 1]], np.int32)
    found = np.asarray(rgb(Image.fromarray(values), WHITE))[0, :, 0]
    assert found.tolist() == [0, 0, 0, 255, 255, 255, 255]


def test_a_profile_of_another_kind_of_colour_is_ignored(view: Viewer) -> None:
    assert view.colour(encoded(plain(55, "L"), icc_profile=swapping_rgb())) == (55, 55, 55)
    assert view.colour(encoded(plain(RED), icc_profile=linear_grey())) == RED


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_inks_are_what_the_profile_of_their_press_says(view: Viewer, kind: str) -> None:
    inks = plain((255, 0, 0, 0), "CMYK")
    red, green, blue = view.colour(encoded(inks, kind, icc_profile=press_with_green_ink_for_cyan()))
    assert green > 200
    assert max(red, blue) < 100
    assert view.colour(encoded(plain((0, 0, 0, 0), "CMYK"), kind)) == WHITE


def test_under_transparency_the_background_is_not_converted(view: Viewer) -> None:
    profile = swapping_rgb()
    assert view.colour(encoded(plain((9, 9, 9, 0), "RGBA"), icc_profile=profile), background=RED) == RED
    half = view.colour(encoded(plain((255, 0, 0, 128), "RGBA"), icc_profile=profile), background=RED)
    np.testing.assert_allclose(half, (127, 0, 128), atol=8)


def test_palettes_have_profiles_too(view: Viewer) -> None:
    image = plain(RED).convert("P", palette=Image.Palette.ADAPTIVE)
    np.testing.assert_allclose(view.colour(encoded(image, icc_profile=swapping_rgb())), BLUE, atol=12)


@pytest.mark.parametrize(
    "damage",
    [
        lambda profile: profile[:100],
        lambda profile: profile[: len(profile) // 2],
        lambda profile: b"no profile",
        lambda profile: profile.replace(b"acsp", b"xxxx"),
        lambda profile: profile[:132] + b"\xff" * (len(profile) - 132),
        lambda profile: profile.replace(b"mntr", b"abst"),
    ],
)
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_damaged_profile_is_ignored_and_the_image_stays(view: Viewer, kind: str, damage: Any) -> None:
    photo = encoded(plain(RED), kind, icc_profile=damage(swapping_rgb()))
    np.testing.assert_allclose(view.colour(photo), RED, atol=3)


def test_a_profile_without_end_is_ignored(view: Viewer) -> None:
    huge = swapping_rgb() + b"\0" * (9 << 20)
    assert view.colour(encoded(plain(RED), "TIFF", icc_profile=huge)) == RED


def test_inks_of_a_jpeg_are_inverted_only_where_adobe_wrote_it(view: Viewer) -> None:
    photo = encoded(plain((0, 0, 255, 0), "CMYK"), "JPEG", quality=100)
    at = photo.index(b"Adobe") - 4
    length = struct.unpack(">H", photo[at + 2 : at + 4])[0]
    without = photo[:at] + photo[at + 2 + length :]
    np.testing.assert_allclose(view.colour(photo), (255, 255, 0), atol=4)
    np.testing.assert_allclose(view.colour(without), (0, 0, 0), atol=4)


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("1", 255, WHITE),
        ("L", 77, (77, 77, 77)),
        ("LA", (0, 0), WHITE),
        ("P", 1, GREEN),
        ("RGBA", (255, 0, 0, 255), RED),
        ("RGBA", (255, 0, 0, 0), WHITE),
        ("CMYK", (0, 255, 255, 0), RED),
        ("YCbCr", (76, 85, 255), RED),
        ("I;16", 77 * 257, (77, 77, 77)),
    ],
)
@pytest.mark.parametrize("compression", ["raw", "packbits", "tiff_lzw", "tiff_adobe_deflate"])
def test_tiffs_of_every_mode_are_read(
    view: Viewer, mode: str, colour: Any, expected: Any, compression: str
) -> None:
    image = plain(colour, mode)
    if mode == "P":
        image.putpalette([0, 0, 0, *GREEN])
    np.testing.assert_allclose(view.colour(encoded(image, "TIFF", compression=compression)), expected, atol=2)


@pytest.mark.parametrize("compression", ["group4", "lzma", "zstd"])
def test_tiffs_of_rare_compressions_are_refused(view: Viewer, compression: str) -> None:
    image = plain(1, "1") if compression == "group4" else plain(RED)
    assert view.refused(encoded(image, "TIFF", compression=compression)) == (
        f"a TIFF with compression {compression}"
    )


def test_floats_are_refused_since_nobody_says_what_is_white(view: Viewer) -> None:
    assert view.refused(encoded(plain(0.5, "F"), "TIFF")) == "pixels are floats"


def test_the_first_page_of_a_tiff_and_the_first_picture_of_a_stereo_pair_are_used(view: Viewer) -> None:
    pages = encoded(plain(RED), "TIFF", save_all=True, append_images=[plain(BLUE)])
    pair = encoded(plain(RED), "MPO", save_all=True, append_images=[plain(BLUE)])
    assert view.colour(pages) == RED
    np.testing.assert_allclose(view.colour(pair), RED, atol=3)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("size", [(1, 1), (20_000, 1), (1, 20_000)])
def test_images_of_one_pixel_and_slivers_are_images(view: Viewer, kind: str, size: tuple[int, int]) -> None:
    declared = spec(resize={"shorter": 8}, crop={"height": 8, "width": 8})
    if kind == "WEBP" and max(size) > 16383:
        size = (min(size[0], 16383), min(size[1], 16383))
    photo = encoded(plain(RED, size=size), kind)
    np.testing.assert_allclose(view.made(photo, declared).mean(axis=(0, 1)), RED, atol=4)
