"""Images that were made to do harm are refused for what they are, in time, and end no process."""

from __future__ import annotations

import psutil
import pytest
from tests.decoding import hostile
from tests.decoding.pictures import RED, Viewer, spec

from embedmill.types import Rejection

REFUSED, ODD, DAMAGED = hostile.refused(), hostile.odd(), hostile.damaged()


def test_there_are_200_of_them_and_no_two_are_the_same() -> None:
    assert len(set(REFUSED.values())) == len(REFUSED) >= 200


def test_none_of_them_ends_a_process(view: Viewer) -> None:
    view.found(b"x")
    before = {child.pid for child in psutil.Process().children()}
    view.decoder.decode([*REFUSED.values(), *ODD.values(), *DAMAGED.values()], spec())
    assert {child.pid for child in psutil.Process().children()} == before


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_pixels_is_refused(view: Viewer, name: str) -> None:
    assert not view.refused(REFUSED[name]).startswith("twice ")


@pytest.mark.parametrize("name", ODD)
def test_what_only_looks_dangerous_is_an_image(view: Viewer, name: str) -> None:
    view.made(ODD[name])


@pytest.mark.parametrize("name", [name for name in ODD if "frames" in name])
def test_of_endless_animations_the_first_frame_is_used(view: Viewer, name: str) -> None:
    assert view.colour(ODD[name]) == RED


@pytest.mark.parametrize("name", DAMAGED)
def test_flipped_bits_make_an_image_or_a_reason(view: Viewer, name: str) -> None:
    found = view.found(DAMAGED[name])
    assert isinstance(found, Rejection) or found.shape == (4, 4, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF"])
def test_bombs_are_refused_by_their_header(view: Viewer, kind: str) -> None:
    assert "50000 x 50000 pixels, more than max_pixels" in view.refused(REFUSED[f"{kind}, 50000 x 50000"])
