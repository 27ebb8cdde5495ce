"""The planner's model is opened while shards are frozen; what is wrong with it is told to who asks for it."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
from tests.models import tiny_image_package

from embedmill.cores import cores
from embedmill.errors import ModelError
from embedmill.model import ModelPackage
from embedmill.planning.numerics import Here
from embedmill.spec import WorkSpec


def decoders() -> int:
    found = psutil.Process().children()
    return sum(any("embedmill.decoding" in word for word in each.cmdline()) for each in found)


@pytest.mark.skipif(cores() == 1, reason="one core does one thing after the other")
def test_the_model_and_what_decodes_its_images_are_there_once_the_block_ends(tmp_path: Path) -> None:
    here = Here(ModelPackage.open(tiny_image_package(tmp_path / "model")), WorkSpec())
    with here.opened_beside():
        pass
    assert decoders() == 1
    assert here.encoder().dimension == here.package.spec.dimension
    here.close()
    assert decoders() == 0


def test_a_damaged_model_fails_who_asks_for_it_and_not_who_opened_it_beside(tmp_path: Path) -> None:
    root = tiny_image_package(tmp_path / "model")
    here = Here(ModelPackage.open(root), WorkSpec())
    (root / "model.onnx").write_bytes(b"damaged")
    with here.opened_beside():
        pass
    with pytest.raises(ModelError):
        here.encoder()
    assert decoders() == 0
