"""Inputs beside token ids: what cannot be fed is told when the model is opened."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper
from tests.models import tiny_text_package

from embedmill.errors import ModelError
from embedmill.model import Encoder, ModelPackage


def with_mask(folder: Path, kind: int, shape: list[int | str]) -> ModelPackage:
    """The tiny text model with another input beside its token ids, of this type and shape."""
    file = tiny_text_package(folder) / "model.onnx"
    model = onnx.load(file)
    model.graph.input.append(helper.make_tensor_value_info("token_type_ids", kind, shape))
    onnx.save(model, file)
    return ModelPackage.open(folder)


@pytest.mark.parametrize("kind", [TensorProto.BOOL, TensorProto.UINT32, TensorProto.FLOAT16])
def test_masks_may_be_numbers_of_any_type(tmp_path: Path, kind: int) -> None:
    with Encoder.load(with_mask(tmp_path / "package", kind, ["rows", "tokens"])) as encoder:
        assert len(encoder.binding.feeds[0].targets) == 3


@pytest.mark.parametrize(
    ("kind", "shape", "message"),
    [
        (TensorProto.BFLOAT16, ["rows", "tokens"], r"numbers that NumPy knows, .*: tensor\(bfloat16\)"),
        (TensorProto.STRING, ["rows", "tokens"], "numbers that NumPy knows, .*: string"),
        (
            TensorProto.INT64,
            ["rows", 16],
            r"are \[N, \?\], and the model.s input is token_type_ids: int64\[rows, 16\]",
        ),
        (TensorProto.INT64, [1, "tokens"], "fixed number of rows, token_type_ids"),
        (TensorProto.INT64, ["rows", 1, 1, "tokens"], r"are \[N, \?\]"),
    ],
)
def test_masks_that_cannot_be_fed_are_told_at_load(
    tmp_path: Path, kind: int, shape: list[int | str], message: str
) -> None:
    with pytest.raises(ModelError, match=f"encoder 'item': .*{message}"):
        Encoder.load(with_mask(tmp_path / "package", kind, shape))
