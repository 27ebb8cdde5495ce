"""docs/images.md says which files are images, and what a decoding process may take."""

from __future__ import annotations

import re

from PIL import PngImagePlugin
from tests.docs.pages import table, text_of, unquoted

from embedmill.decoding.colours import LARGEST_PROFILE_BYTES
from embedmill.decoding.images import FORMATS, TIFF_COMPRESSIONS
from embedmill.decoding.process import DecodingLimits
from embedmill.decoding.recipe import BASE_BYTES, BYTES_PER_PIXEL

PAGE = "images.md"
WORDS = " ".join(text_of(PAGE).split())


def test_every_format_is_in_the_table_with_its_limits() -> None:
    rows = {unquoted(kind): notes for kind, notes in table(PAGE, "Which files are images")}
    assert list(rows) == list(FORMATS)
    assert re.findall(r"`(\w+)`", rows["TIFF"]) == list(TIFF_COMPRESSIONS)
    assert f"more than {PngImagePlugin.MAX_TEXT_CHUNK >> 20} MiB, or " in rows["PNG"]
    assert f"{PngImagePlugin.MAX_TEXT_MEMORY >> 20} MiB together" in rows["PNG"]


def test_a_process_may_take_what_the_page_says() -> None:
    limits = DecodingLimits()
    assert f"{BASE_BYTES >> 20} MiB and {BYTES_PER_PIXEL} bytes for each of `max_pixels`" in WORDS
    assert f"no more than {limits.cpu_s} s (at most {limits.cpu_s + 1}) an image" in WORDS
    assert f"no more than {limits.wall_s:g} s an image" in WORDS
    assert f"larger than {LARGEST_PROFILE_BYTES >> 20} MiB" in WORDS
