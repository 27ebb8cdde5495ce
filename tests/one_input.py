"""Models of one input whose vectors are what they were fed: what a feed makes can be read off."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from onnx import TensorProto, helper
from tests.models import save_onnx

from embedmill.model import Encoder, ModelPackage


def mirror_package(
    folder: Path,
    item: Mapping[str, Any],
    *inputs: tuple[str, int, Sequence[int | str]],
    dimension: int,
    projected: bool = False,
    vocabulary: str = "red\ngreen\nblue\n",
) -> Path:
    """A package whose vector is all inputs, as floats, one behind the other; `[rows]` is one wide.

    `projected`: multiplied with random weights, into `dimension` values.
    """
    folder.mkdir(parents=True)
    (folder / "words.txt").write_bytes(vocabulary.encode())
    nodes, parts = [], []
    for name, *_ in inputs:
        nodes.append(helper.make_node("Cast", [name], [f"{name}_float"], to=TensorProto.FLOAT))
        parts.append(f"{name}_flat")
        nodes.append(helper.make_node("Reshape", [f"{name}_float", "flat"], [parts[-1]]))
    nodes.append(helper.make_node("Concat", parts, ["all" if projected else "vectors"], axis=1))
    weights: dict[str, Any] = {"flat": np.array([0, -1], np.int64)}
    if projected:
        width = sum(math.prod(map(int, shape)) for _, _, shape in inputs)
        weights["weights"] = np.random.default_rng(0).normal(size=(width, dimension)).astype(np.float32)
        nodes.append(helper.make_node("MatMul", ["all", "weights"], ["vectors"]))
    graph_inputs = [
        helper.make_tensor_value_info(name, kind, ["rows", *shape]) for name, kind, shape in inputs
    ]
    output = helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["rows", None])
    save_onnx(folder / "model.onnx", nodes, graph_inputs, [output], weights=weights)
    document = {
        "name": "mirror",
        "runtimes": [{"kind": "onnx", "file": "model.onnx"}],
        "dimension": dimension,
        "encoders": {"item": dict(item)},
    }
    (folder / "model.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    return folder


def numbers_package(folder: Path, item: Mapping[str, Any], kind: int = TensorProto.FLOAT) -> Path:
    """A mirror of one value a row for each input, and for what else numbers feed."""
    beside = [
        spec["number"]["indicator"] for spec in item.values() if spec.get("number", {}).get("indicator")
    ]
    inputs = [(name, kind, ()) for name in [*item, *beside]]
    return mirror_package(folder, item, *inputs, dimension=len(inputs))


def files_package(folder: Path, *, size: int) -> Path:
    """A mirror of files of `size` bytes; it takes no larger ones."""
    item = {"file": {"bytes": {"field": "file"}}}
    return mirror_package(folder, item, ("file", TensorProto.UINT8, (size,)), dimension=size)


def loaded(folder: Path, **options: Any) -> Encoder:
    return Encoder.load(ModelPackage.open(folder), **options)
