"""`check_package` notices when a package no longer computes what it did when it was made."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from tests.models import tiny_image_package, tiny_text_package

from embedmill.errors import ModelError
from embedmill.model import ModelPackage
from embedmill.model.check import check_package
from embedmill.model.importing import import_declared


@pytest.fixture
def package(tmp_path: Path) -> ModelPackage:
    source = tiny_text_package(tmp_path / "source", dimension=4)
    return import_declared(source / "model.onnx", source / "model.yaml", tmp_path / "package")


def test_a_sound_package_is_described(package: ModelPackage) -> None:
    report = check_package(package)
    assert (report.name, report.package_digest) == ("tiny", package.package_digest())
    assert [encoder.name for encoder in report.encoders] == ["item", "query_text"]
    for encoder in report.encoders:
        assert encoder.digest == package.encoder_digest(encoder.name)
        assert [spec.name for spec in encoder.inputs] == ["input_ids", "attention_mask"]
        assert [str(spec) for spec in encoder.outputs] == ["vectors: float32[rows, 4]"]
        assert encoder.dimension == 4
        assert encoder.goldens >= 12
        assert encoder.lowest_cosine is not None
        assert encoder.lowest_cosine >= 0.9999
        assert encoder.rows_per_second is not None
        assert encoder.rows_per_second > 0


def test_weights_that_moved_are_noticed(package: ModelPackage) -> None:
    file = package.root / "model.onnx"
    model = onnx.load(file)
    for tensor in model.graph.initializer:
        weights = numpy_helper.to_array(tensor)
        noise = np.random.default_rng(0).normal(scale=0.1, size=weights.shape).astype(weights.dtype)
        tensor.CopyFrom(numpy_helper.from_array(weights + noise, tensor.name))
    onnx.save(model, file)
    with pytest.raises(
        ModelError, match=r"item.jsonl: onnxruntime: \d+ of 12 goldens moved; the worst, line \d+, .*0.9999"
    ):
        check_package(ModelPackage.open(package.root))


def test_one_golden_that_moved_is_noticed_and_located(package: ModelPackage) -> None:
    file = package.root / "goldens" / "query_text.jsonl"
    lines = file.read_text("utf-8").splitlines()
    golden = json.loads(lines[2])
    golden["vector"][0] += 0.1
    file.write_text("\n".join([*lines[:2], json.dumps(golden), *lines[3:]]), "utf-8")
    with pytest.raises(
        ModelError, match=r"query_text.jsonl: onnxruntime: 1 of 12 goldens moved; the worst, line 3"
    ):
        check_package(package)


def test_a_package_without_goldens_is_loaded_all_the_same(tmp_path: Path) -> None:
    report = check_package(ModelPackage.open(tiny_image_package(tmp_path / "package")))
    for encoder in report.encoders:
        assert (encoder.goldens, encoder.lowest_cosine, encoder.rows_per_second) == (0, None, None)


@pytest.mark.parametrize("content", ["", "{", "{}", '{"fields": {"query": "a"}, "vector": [1, "x"]}', "[]"])
def test_a_damaged_goldens_file_is_a_model_error_of_one_line(package: ModelPackage, content: str) -> None:
    (package.root / "goldens" / "item.jsonl").write_text(content)
    with pytest.raises(ModelError, match=r"item.jsonl: ") as caught:
        check_package(package)
    assert "\n" not in str(caught.value)


def test_goldens_of_another_dimension_are_a_model_error_with_both(package: ModelPackage) -> None:
    line = {"fields": {"title": "a", "category": "b"}, "vector": [1.0, 0.0]}
    (package.root / "goldens" / "item.jsonl").write_text(json.dumps(line))
    with pytest.raises(ModelError, match="vectors of 2 values, and the model makes 4"):
        check_package(package)


def test_an_encoder_that_does_not_load_is_a_model_error(package: ModelPackage) -> None:
    (package.root / "model.onnx").write_bytes(b"\x08\x09")
    with pytest.raises(ModelError, match=r"model.onnx"):
        check_package(package)
