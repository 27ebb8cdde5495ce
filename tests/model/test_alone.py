"""A package is refused whose vectors depend on the rows beside them, or on chance."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import helper
from tests.models import end_with, tiny_image_package, tiny_text_package

from embedmill.errors import ModelError
from embedmill.model import Encoder, ModelPackage
from embedmill.model.check import check_package
from embedmill.model.goldens import goldens_file, read_goldens, write_goldens
from embedmill.model.importing import import_declared

CENTRED = [
    helper.make_node("ReduceMean", ["own"], ["centre"], axes=[0], keepdims=1),
    helper.make_node("Sub", ["own", "centre"], ["vectors"]),
]
"""What batch normalisation in training mode does."""
NOISY = [
    helper.make_node("RandomNormalLike", ["own"], ["noise"], seed=1.0),
    helper.make_node("Add", ["own", "noise"], ["vectors"]),
]
"""What dropout that was left on does: the first vectors of every process are alike, the second are others."""


@pytest.mark.parametrize("nodes", [CENTRED, NOISY], ids=["batch", "chance"])
@pytest.mark.parametrize("make", [tiny_text_package, tiny_image_package])
def test_it_is_not_imported(
    tmp_path: Path, make: Callable[[Path], Path], nodes: list[onnx.NodeProto]
) -> None:
    source = make(tmp_path / "source")
    end_with(source / "model.onnx", nodes)
    with pytest.raises(
        ModelError, match="encoder 'item': vectors depend on the rows beside them, or on chance"
    ):
        import_declared(source / "model.onnx", source / "model.yaml", tmp_path / "package")
    assert not (tmp_path / "package").exists()


@pytest.mark.parametrize("nodes", [CENTRED, NOISY], ids=["batch", "chance"])
def test_a_package_that_was_made_of_it_fails_its_check(tmp_path: Path, nodes: list[onnx.NodeProto]) -> None:
    source = tiny_text_package(tmp_path / "source")
    package = import_declared(source / "model.onnx", source / "model.yaml", tmp_path / "package")
    end_with(package.root / "model.onnx", nodes)
    package = ModelPackage.open(package.root)
    for name in package.spec.encoders:
        file = goldens_file(package, name)
        rows, _ = read_goldens(file)
        with Encoder.load(package, name) as encoder:
            write_goldens(file, rows, encoder.encode(rows).vectors_ND)
    found = check_package(package)
    assert [runtime.lowest_cosine for encoder in found.encoders for runtime in encoder.runtimes] == [1.0, 1.0]
    assert "a row alone has a cosine of " in str(found.failure)
