"""The suite of runtimes on those of the core; other groups run it where their libraries are."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.contracts.runtime_suite import RuntimeSuite
from tests.models import tiny_text_package

from embedmill.errors import DeviceUnavailable
from embedmill.runtimes import Place, TensorSpec, load_runtime
from embedmill.spec import OnnxSpec


class TestOnnx(RuntimeSuite):
    spec = OnnxSpec(kind="onnx", file="model.onnx")
    main = "model.onnx"

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        return tiny_text_package(tmp_path / "package", dimension=6)


def test_a_spec_reads_as_name_type_and_shape() -> None:
    assert str(TensorSpec("x", "int64", ("rows", None, 3))) == "x: int64[rows, ?, 3]"


@pytest.mark.parametrize("written", ["cpu", "cuda", "cuda:1", "tpu:12"])
def test_a_device_is_a_kind_and_perhaps_a_number(written: str) -> None:
    place = Place.of(written, threads=3)
    kind, _, index = written.partition(":")
    assert place == Place(kind, int(index or 0), 3, "float32")


@pytest.mark.parametrize("written", ["", ":", "cuda:", "cuda:x", "0", "cuda:-1", "a b", "cuda:1:2"])
def test_what_is_no_device_is_refused(written: str) -> None:
    with pytest.raises(DeviceUnavailable, match="is no device"):
        Place.of(written)


def test_a_precision_that_a_runtime_does_not_know_is_refused(tmp_path: Path) -> None:
    root = tiny_text_package(tmp_path / "package", dimension=6)
    with pytest.raises(DeviceUnavailable, match="onnx: cannot compute in float16 on cpu"):
        load_runtime(TestOnnx.spec, root, precision="float16")
