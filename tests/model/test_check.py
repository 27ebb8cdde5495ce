"""`check_package` notices when a package no longer computes what it did when it was made."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from onnx import numpy_helper
from tests.models import tiny_image_package, tiny_text_package

from embedmill.errors import DeviceUnavailable, ModelError
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
        assert encoder.dimension == 4
        assert encoder.goldens >= 12
        (runtime,) = encoder.runtimes
        assert (runtime.spec, runtime.state, runtime.error) == (package.spec.runtimes[0], "ok", None)
        assert [spec.name for spec in runtime.inputs] == ["input_ids", "attention_mask"]
        assert [str(spec) for spec in runtime.outputs] == ["vectors: float32[rows, 4]"]
        assert runtime.lowest_cosine is not None
        assert runtime.lowest_cosine >= 0.9999
        assert runtime.rows_per_second is not None
        assert runtime.rows_per_second > 0
    assert report.failure is None


def failure(package: ModelPackage) -> str:
    """What is wrong with a package, in one line."""
    error = check_package(package).failure
    assert isinstance(error, ModelError)
    assert "\n" not in str(error)
    return str(error)


def with_noise(source: Path, target: Path) -> None:
    """An ONNX file like another one, with other weights."""
    model = onnx.load(source)
    for tensor in model.graph.initializer:
        weights = numpy_helper.to_array(tensor)
        noise = np.random.default_rng(0).normal(scale=0.1, size=weights.shape).astype(weights.dtype)
        tensor.CopyFrom(numpy_helper.from_array(weights + noise, tensor.name))
    onnx.save(model, target)


def declare(package: ModelPackage, *runtimes: dict[str, Any]) -> ModelPackage:
    """The package with these runtimes beside its first one."""
    file = package.root / "model.yaml"
    document = yaml.safe_load(file.read_text())
    document["runtimes"] += runtimes
    file.write_text(yaml.safe_dump(document))
    return ModelPackage.open(package.root)


def test_weights_that_moved_are_noticed(package: ModelPackage) -> None:
    with_noise(package.root / "model.onnx", package.root / "model.onnx")
    package = ModelPackage.open(package.root)
    moved = r"item.jsonl: onnxruntime: \d+ of 12 goldens moved; the worst, line \d+, .*0.9999"
    assert re.search(f"{moved}.*; import the model again", failure(package))
    assert [encoder.runtimes[0].state for encoder in check_package(package).encoders] == ["failed", "failed"]


def test_every_runtime_is_reported_though_one_of_them_moved_goldens(package: ModelPackage) -> None:
    with_noise(package.root / "model.onnx", package.root / "moved.onnx")
    shutil.copy(package.root / "model.onnx", package.root / "same.onnx")
    (package.root / "damaged.onnx").write_bytes(b"\x08\x09")
    files = ("moved.onnx", "same.onnx", "damaged.onnx")
    package = declare(package, *({"kind": "onnx", "file": file} for file in files))
    report = check_package(package)
    for encoder in report.encoders:
        assert [each.state for each in encoder.runtimes] == ["ok", "failed", "ok", "failed"]
        _, moved, same, damaged = encoder.runtimes
        assert moved.lowest_cosine is not None
        assert moved.lowest_cosine < 0.9999
        assert moved.rows_per_second is not None
        assert same.lowest_cosine == pytest.approx(1.0)
        assert same.error is None
        assert damaged.lowest_cosine is None
        assert "damaged.onnx" in str(damaged.error)
    assert "goldens moved" in str(report.failure)
    assert "the first of `runtimes` made them" in str(report.failure)


def test_a_runtime_that_is_not_available_here_says_why_and_is_no_failure(package: ModelPackage) -> None:
    server = {"kind": "triton", "model": "tiny", "version": 1}
    package = declare(package, server, server | {"kind": "tf_serving"})
    report = check_package(package)
    assert report.failure is None
    for encoder in report.encoders:
        assert [each.state for each in encoder.runtimes] == ["ok", "unavailable", "unavailable"]
        assert "set EMBEDMILL_TRITON_URL" in str(encoder.runtimes[1].error)
        assert "set EMBEDMILL_TF_SERVING_URL" in str(encoder.runtimes[2].error)
        assert encoder.runtimes[1].version is None


def test_without_goldens_only_the_first_runtime_is_tried(tmp_path: Path) -> None:
    package = ModelPackage.open(tiny_image_package(tmp_path / "package"))
    report = check_package(declare(package, {"kind": "onnx", "file": "model.onnx"}))
    for encoder in report.encoders:
        assert [each.state for each in encoder.runtimes] == ["ok", "unavailable"]
        assert "has no goldens to compare it by" in str(encoder.runtimes[1].error)


def test_an_encoder_without_any_runtime_here_is_an_error_at_once(package: ModelPackage) -> None:
    file = package.root / "model.yaml"
    server = {"kind": "triton", "model": "tiny", "version": 1}
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"runtimes": [server]}))
    with pytest.raises(DeviceUnavailable, match="nothing says where the server of model 'tiny' is"):
        check_package(ModelPackage.open(package.root))


def test_one_golden_that_moved_is_noticed_and_located(package: ModelPackage) -> None:
    file = package.root / "goldens" / "query_text.jsonl"
    lines = file.read_text("utf-8").splitlines()
    golden = json.loads(lines[2])
    golden["vector"][0] += 0.1
    file.write_text("\n".join([*lines[:2], json.dumps(golden), *lines[3:]]), "utf-8")
    assert "query_text.jsonl: onnxruntime: 1 of 12 goldens moved; the worst, line 3" in failure(package)


def test_a_package_without_goldens_is_loaded_all_the_same(tmp_path: Path) -> None:
    report = check_package(ModelPackage.open(tiny_image_package(tmp_path / "package")))
    for encoder in report.encoders:
        (runtime,) = encoder.runtimes
        assert (encoder.goldens, runtime.lowest_cosine, runtime.rows_per_second) == (0, None, None)
        assert runtime.state == "ok"


@pytest.mark.parametrize("content", ["", "{", "{}", '{"fields": {"query": "a"}, "vector": [1, "x"]}', "[]"])
def test_a_damaged_goldens_file_is_a_model_error_of_one_line(package: ModelPackage, content: str) -> None:
    (package.root / "goldens" / "item.jsonl").write_text(content)
    with pytest.raises(ModelError, match=r"item.jsonl: ") as caught:
        check_package(package)
    assert "\n" not in str(caught.value)


def test_goldens_of_another_dimension_are_a_model_error_with_both(package: ModelPackage) -> None:
    line = {"fields": {"title": "a", "category": "b"}, "vector": [1.0, 0.0]}
    (package.root / "goldens" / "item.jsonl").write_text(json.dumps(line))
    assert "vectors of 2 values, and the model makes 4" in failure(package)


def test_an_encoder_that_does_not_load_is_a_model_error(package: ModelPackage) -> None:
    (package.root / "model.onnx").write_bytes(b"\x08\x09")
    assert "model.onnx" in failure(package)
