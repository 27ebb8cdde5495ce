"""A thumbnail shows the whole image, small, upright and in its colours; the pixels beside it are the same."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image
from tests.decoding.pictures import BLUE, GREEN, RED, Viewer, encoded, noise, plain, spec

from embedmill.decoding.images import FORMATS
from embedmill.model.images import ImageDecoder, Picture
from embedmill.types import Rejection

SIDE = 32


@pytest.fixture(scope="module")
def decoder() -> Iterator[ImageDecoder]:
    made = ImageDecoder(thumbnails=SIDE)
    yield made
    made.close()


def picture(decoder: ImageDecoder, data: bytes) -> Picture:
    (found,) = decoder.decode([data], spec())
    assert not isinstance(found, Rejection), found
    return found


def thumbnail(decoder: ImageDecoder, data: bytes) -> Image.Image:
    found = picture(decoder, data).thumbnail
    assert found is not None
    return Image.open(io.BytesIO(found), formats=["JPEG"])


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((200, 100), (32, 16)),
        ((100, 200), (16, 32)),
        ((64, 64), (32, 32)),
        ((20, 8), (20, 8)),
        ((900, 1), (32, 1)),
    ],
)
def test_it_has_the_images_proportions_and_is_never_enlarged(
    decoder: ImageDecoder, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert thumbnail(decoder, encoded(plain(RED, size=size))).size == expected


def test_it_shows_the_whole_image_where_the_model_sees_a_part(decoder: ImageDecoder) -> None:
    wide = Image.new("RGB", (96, 32), GREEN)
    wide.paste(RED, (0, 0, 32, 32))
    wide.paste(BLUE, (64, 0, 96, 32))
    small = np.asarray(thumbnail(decoder, encoded(wide)), dtype=int)
    for column, colour in ((2, RED), (16, GREEN), (29, BLUE)):
        assert np.abs(small[5, column] - colour).max() < 40


def test_it_is_upright(decoder: ImageDecoder) -> None:
    lying = Image.new("RGB", (64, 32), RED)
    lying.paste(BLUE, (32, 0, 64, 32))
    exif = Image.Exif()
    exif[0x0112] = 6  # its left side is the top
    small = thumbnail(decoder, encoded(lying, "JPEG", quality=95, exif=exif))
    assert small.size == (16, 32)
    top, bottom = np.asarray(small, dtype=int)[[4, 28], 8]
    assert np.abs(top - RED).max() < 40
    assert np.abs(bottom - BLUE).max() < 40


@pytest.mark.parametrize("kind", FORMATS)
def test_the_models_pixels_are_those_without_it(decoder: ImageDecoder, view: Viewer, kind: str) -> None:
    data = encoded(noise(90, 70), kind)
    assert picture(decoder, data).pixels.tobytes() == view.made(data).tobytes()


def test_none_is_made_unless_wanted(view: Viewer) -> None:
    (found,) = view.decoder.decode([encoded(plain(RED))], spec())
    assert isinstance(found, Picture)
    assert found.thumbnail is None
