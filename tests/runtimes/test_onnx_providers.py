"""What ONNX Runtime is told about GPUs, as tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from embedmill.errors import DeviceUnavailable, ModelError
from embedmill.runtimes import Place, TensorSpec
from embedmill.runtimes.onnx_providers import (
    CPU,
    CUDA,
    TENSORRT,
    check_available,
    check_place,
    check_shapes_declared,
    check_shapes_fed,
    fallen_back,
    provider_options,
    stack,
)
from embedmill.spec import OnnxSpec, Precision

SHAPES: dict[str, Any] = {
    "ids": {"min": [1, 1], "opt": [16, 64], "max": [512, 256]},
    "mask": {"min": [1, 1], "opt": [16, 64], "max": [512, 256]},
}


def spec(**keys: Any) -> OnnxSpec:
    return OnnxSpec.model_validate({"kind": "onnx", "file": "model.onnx", **keys})


def test_on_a_cpu_there_is_the_cpu_alone_whatever_is_declared_for_gpus() -> None:
    declared = spec(tensorrt=True, shapes=SHAPES, memory_limit_mib=4)
    assert provider_options(declared, Place("cpu")) == [(CPU, {})]


@pytest.mark.parametrize(("precision", "tf32"), [("float32", "0"), ("tf32", "1")])
def test_cuda_is_told_of_the_device_and_rounds_to_tf32_only_if_that_is_declared(
    precision: Precision, tf32: str
) -> None:
    assert provider_options(spec(), Place("cuda", 3, precision=precision)) == [
        (
            CUDA,
            {
                "device_id": "3",
                "use_tf32": tf32,
                "cudnn_conv_algo_search": "HEURISTIC",
                "arena_extend_strategy": "kSameAsRequested",
            },
        ),
        (CPU, {}),
    ]


@pytest.mark.parametrize(
    ("precision", "fp16", "bf16", "tf32"),
    [
        ("float32", "False", "False", "0"),
        ("tf32", "False", "False", "1"),
        ("float16", "True", "False", "0"),
        ("bfloat16", "False", "True", "0"),
    ],
)
def test_tensorrt_rounds_as_declared_and_leaves_the_rest_to_cuda(
    precision: Precision, fp16: str, bf16: str, tf32: str
) -> None:
    place = Place("cuda", 1, precision=precision)
    (first, options), (second, cuda), third = provider_options(spec(tensorrt=True), place)
    assert (first, second, third) == (TENSORRT, CUDA, (CPU, {}))
    assert options == {
        "device_id": "1",
        "trt_fp16_enable": fp16,
        "trt_bf16_enable": bf16,
        "trt_layer_norm_fp32_fallback": fp16,
        "trt_engine_cache_enable": "False",
    }
    assert (cuda["use_tf32"], cuda["device_id"]) == (tf32, "1")


def test_engines_are_kept_in_the_folder_that_is_named_and_built_for_the_shapes() -> None:
    declared = spec(tensorrt=True, shapes=SHAPES)
    (_, options), *_ = provider_options(declared, Place("cuda"), engines=Path("/cache/engines/x"))
    assert options["trt_engine_cache_enable"] == "True"
    assert options["trt_engine_cache_path"] == "/cache/engines/x"
    assert options["trt_profile_min_shapes"] == "ids:1x1,mask:1x1"
    assert options["trt_profile_opt_shapes"] == "ids:16x64,mask:16x64"
    assert options["trt_profile_max_shapes"] == "ids:512x256,mask:512x256"


def test_a_limit_of_memory_is_one_of_bytes() -> None:
    (_, tensorrt), (_, cuda), _ = provider_options(spec(tensorrt=True, memory_limit_mib=3), Place("cuda"))
    assert tensorrt["trt_max_workspace_size"] == cuda["gpu_mem_limit"] == "3145728"


@pytest.mark.parametrize(
    ("tensorrt", "device", "precision"),
    [
        (False, "cpu", "tf32"),
        (True, "cpu", "float16"),
        (False, "cuda", "float16"),
        (False, "cuda", "bfloat16"),
        (True, "tpu", "float32"),
    ],
)
def test_what_no_provider_computes_in_or_on_is_refused(
    tensorrt: bool, device: str, precision: Precision
) -> None:
    with pytest.raises(DeviceUnavailable, match=r"onnx: (cannot compute in|no device)"):
        check_place(spec(tensorrt=tensorrt), Place.of(device, precision=precision))


@pytest.mark.parametrize(
    ("tensorrt", "device", "precision"),
    [(True, "cpu", "float32"), (False, "cuda:1", "tf32"), (True, "cuda", "float16"), (True, "cuda", "tf32")],
)
def test_what_a_provider_computes_in_passes(tensorrt: bool, device: str, precision: Precision) -> None:
    check_place(spec(tensorrt=tensorrt), Place.of(device, precision=precision))


def test_a_build_without_the_provider_is_told_which_wheel_has_it_and_for_which_cuda() -> None:
    with pytest.raises(DeviceUnavailable) as caught:
        check_available(TENSORRT, [CUDA, CPU], version="1.32.0")
    assert "ONNX Runtime 1.32.0, as it is installed, has no TensorrtExecutionProvider" in str(caught.value)
    assert "pip install 'onnxruntime-gpu[cuda,cudnn]'" in str(caught.value)
    assert "CUDA 13 since 1.27" in str(caught.value)
    check_available(CUDA, [CUDA, CPU], version="1.32.0")


def test_falling_back_is_told_with_the_reason() -> None:
    told = str(fallen_back(CUDA, [CPU], why="libcublasLt.so.13: cannot open"))
    assert "would compute by CPUExecutionProvider instead: libcublasLt.so.13: cannot open" in told
    assert "instead (pip install" in str(fallen_back(CUDA, [CPU], why=""))


VERSIONS = {"TensorRT": "10.13.3", "CUDA": "13.0", "cuDNN": ""}


def test_a_stack_says_what_computes_and_on_which_gpu() -> None:
    said = {
        provider: stack(spec(tensorrt=True), provider, library="1.32.0", versions=VERSIONS, gpu="NVIDIA L4")
        for provider in (CPU, CUDA, TENSORRT)
    }
    assert said[CPU] == "1.32.0"
    assert said[CUDA] == "1.32.0, CUDA 13.0, NVIDIA L4"
    assert said[TENSORRT].startswith("1.32.0, TensorRT 10.13.3, CUDA 13.0, NVIDIA L4, shapes ")


def test_other_shapes_are_another_stack_and_another_order_of_them_is_not() -> None:
    backwards = dict(reversed(SHAPES.items()))
    larger = SHAPES | {"mask": {"min": [1, 1], "opt": [16, 64], "max": [512, 257]}}
    first, same, other = (
        stack(spec(tensorrt=True, shapes=shapes), TENSORRT, library="1", versions={}, gpu="g")
        for shapes in (SHAPES, backwards, larger)
    )
    assert first == same
    assert first != other


FREE = {"ids": TensorSpec("ids", "int64", ("rows", None)), "fixed": TensorSpec("fixed", "float32", (8, 3))}


def test_tensorrt_needs_the_shapes_of_inputs_with_free_dimensions() -> None:
    with pytest.raises(ModelError, match=r"m.onnx: TensorRT needs the shapes of ids \(add `shapes: \{ids:"):
        check_shapes_declared(spec(tensorrt=True), FREE, said_by="m.onnx")
    check_shapes_declared(spec(tensorrt=True, shapes=SHAPES), FREE, said_by="m.onnx")


@pytest.mark.parametrize("shape", [(1, 1), (16, 64), (512, 256)])
def test_batches_within_the_shapes_pass(shape: tuple[int, ...]) -> None:
    check_shapes_fed(spec(tensorrt=True, shapes=SHAPES).shapes, {"ids": np.zeros(shape)}, said_by="m.onnx")


@pytest.mark.parametrize("shape", [(513, 1), (1, 257), (0, 1), (4,), (1, 1, 1)])
def test_a_batch_outside_of_the_shapes_is_refused(shape: tuple[int, ...]) -> None:
    ranges = spec(tensorrt=True, shapes=SHAPES).shapes
    with pytest.raises(ModelError, match=r"m.onnx: ids of the shape .* from \[1, 1\] to \[512, 256\]"):
        check_shapes_fed(ranges, {"ids": np.zeros(shape)}, said_by="m.onnx")


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"shapes": SHAPES}, "add `tensorrt: true`"),
        ({"tensorrt": True, "shapes": {"ids": {"min": [2], "opt": [1], "max": [3]}}}, "must ascend"),
        (
            {"tensorrt": True, "shapes": {"ids": {"min": [1, 1], "opt": [1], "max": [3]}}},
            "as many dim",
        ),
        ({"tensorrt": True, "shapes": {"ids:0": SHAPES["ids"]}}, "cannot be told of an input called 'ids:0'"),
        (
            {"tensorrt": True, "shapes": {"ids": {"min": [0], "opt": [1], "max": [1]}}},
            "greater than or equal",
        ),
        ({"memory_limit_mib": 0}, "greater than or equal"),
        ({"tensorrt": True, "shapes": {"ids": {"min": [], "opt": [], "max": []}}}, "at least 1"),
    ],
)
def test_a_section_that_contradicts_itself_is_refused(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        spec(**keys)
