"""Processes that decode images are started once, with memory for the largest images of all inputs."""

from __future__ import annotations

import pytest

from embedmill.decoding import pool
from embedmill.decoding.process import Child, DecodingLimits
from embedmill.model.images import ImageDecoder
from embedmill.spec import ImageInput


def test_inputs_of_ever_larger_images_share_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    class Noted(Child):
        def __init__(self, limits: DecodingLimits, memory_bytes: int) -> None:
            super().__init__(limits, memory_bytes)
            started.append(memory_bytes)

    monkeypatch.setattr(pool, "Child", Noted)
    sizes = {"resize": {"shorter": 8}, "crop": {"height": 8, "width": 8}}
    specs = [
        ImageInput.model_validate({"field": "image", "max_pixels": pixels} | sizes)
        for pixels in (10_000, 1_000_000)
    ]
    decoder = ImageDecoder(children=1)
    try:
        decoder.start(specs)
    finally:
        decoder.close()
    assert len(started) == 1
    assert started[0] > 1_000_000
