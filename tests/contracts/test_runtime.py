"""The suite of runtimes on those of the core; other groups run it where their libraries are."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.contracts.runtime_suite import RuntimeSuite
from tests.models import tiny_text_package

from embedmill.runtimes import TensorSpec
from embedmill.spec import OnnxSpec


class TestOnnx(RuntimeSuite):
    spec = OnnxSpec(kind="onnx", file="model.onnx")
    main = "model.onnx"

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        return tiny_text_package(tmp_path / "package", dimension=6)


def test_a_spec_reads_as_name_type_and_shape() -> None:
    assert str(TensorSpec("x", "int64", ("rows", None, 3))) == "x: int64[rows, ?, 3]"
