"""What ONNX Runtime is told about a GPU, and what it may answer; none of this needs one.

Names and values of options are those of onnxruntime.ai/docs/execution-providers, pages
CUDA-ExecutionProvider and TensorRT-ExecutionProvider. Its Python binding takes `True` and `False` for
TensorRT's switches, and 0 and 1 for CUDA's (onnxruntime_pybind_state.cc).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from embedmill.errors import DeviceUnavailable, ModelError
from embedmill.runtimes.base import Place, TensorSpec
from embedmill.spec import OnnxSpec, Precision, ShapeRange

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
PRECISIONS: Mapping[str, tuple[Precision, ...]] = {
    CPU: ("float32",),
    CUDA: ("float32", "tf32"),
    TENSORRT: ("float32", "tf32", "float16", "bfloat16"),
}
WHEEL = "onnxruntime-gpu[cuda,cudnn]"
"""The wheel with CUDA and TensorRT; it replaces `onnxruntime`, for both write into one folder."""
WHEEL_CUDA = "PyPI's is for CUDA 13 since 1.27, for CUDA 12 from 1.19 to 1.26"
Options = dict[str, str]


def provider_of(spec: OnnxSpec, place: Place) -> str:
    """The execution provider that is to compute."""
    if place.kind != "cuda":
        return CPU
    return TENSORRT if spec.tensorrt else CUDA


def check_place(spec: OnnxSpec, place: Place) -> None:
    """Fail unless ONNX Runtime computes on such a device, in the declared precision.

    Raises:
        DeviceUnavailable: It does not.
    """
    place.check("onnx", devices=["cpu", "cuda"], precisions=PRECISIONS[provider_of(spec, place)])


def check_available(provider: str, available: Sequence[str], *, version: str) -> None:
    """Fail unless the installed library was built with the provider.

    Raises:
        DeviceUnavailable: It was not; says which wheel was, and for which CUDA.
    """
    if provider not in available:
        raise DeviceUnavailable(
            f"onnx: ONNX Runtime {version}, as it is installed, has no {provider}",
            hint=f"pip uninstall onnxruntime; pip install '{WHEEL}'; {WHEEL_CUDA}",
        )


def fallen_back(provider: str, used: Sequence[str], *, why: str) -> DeviceUnavailable:
    """The error of a session that computes by something else: ONNX Runtime itself raises none.

    Args:
        provider: The one that was asked for.
        used: Those of the session.
        why: What keeps the provider's library from being loaded, as far as that is known.
    """
    return DeviceUnavailable(
        f"onnx: {provider} cannot be used, and ONNX Runtime would compute by {', '.join(used)} instead"
        f"{f': {why}' if why else ''}",
        hint=f"pip install '{WHEEL}' brings CUDA and cuDNN; {WHEEL_CUDA}",
    )


def provider_options(
    spec: OnnxSpec, place: Place, *, engines: Path | None = None
) -> list[tuple[str, Options]]:
    """The providers of a session with their options, the one that is to compute first.

    What TensorRT leaves over is for CUDA; what CUDA leaves, such as arithmetic of shapes, is for the CPU.

    Args:
        spec: The section of the package.
        place: A device, which `check_place` let pass.
        engines: The folder of TensorRT's engines; None: they are not kept.
    """
    provider = provider_of(spec, place)
    if provider == CPU:
        return [(CPU, {})]
    after = [(CUDA, _cuda(spec, place)), (CPU, {})]
    return [(TENSORRT, _tensorrt(spec, place, engines)), *after] if provider == TENSORRT else after


def _cuda(spec: OnnxSpec, place: Place) -> Options:
    """Kernels are chosen by heuristics: the exhaustive search goes by time, so that two runs may differ."""
    options = {
        "device_id": str(place.index),
        "use_tf32": str(int(place.precision == "tf32")),
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
    }
    return options | _limit("gpu_mem_limit", spec)


def _tensorrt(spec: OnnxSpec, place: Place, engines: Path | None) -> Options:
    """There is no option for TF32: see `onnx_gpu.keep_tf32_off`."""
    options = {
        "device_id": str(place.index),
        "trt_fp16_enable": str(place.precision == "float16"),
        "trt_bf16_enable": str(place.precision == "bfloat16"),
        "trt_layer_norm_fp32_fallback": str(place.precision == "float16"),
        "trt_engine_cache_enable": str(engines is not None),
    }
    if engines is not None:
        options["trt_engine_cache_path"] = str(engines)
    for end in ("min", "opt", "max") if spec.shapes else ():
        options[f"trt_profile_{end}_shapes"] = ",".join(
            f"{name}:{'x'.join(map(str, getattr(shapes, end)))}" for name, shapes in spec.shapes.items()
        )
    return options | _limit("trt_max_workspace_size", spec)


def limited(spec: OnnxSpec, place: Place) -> OnnxSpec:
    """The section, with no more memory than may be taken on the device."""
    return spec.model_copy(update={"memory_limit_mib": place.memory_limit_mib(spec.memory_limit_mib)})


def _limit(option: str, spec: OnnxSpec) -> Options:
    return {} if spec.memory_limit_mib is None else {option: str(spec.memory_limit_mib * 2**20)}


def stack(spec: OnnxSpec, provider: str, *, library: str, versions: Mapping[str, str], gpu: str) -> str:
    """Everything about a session that may move vectors, as the version of the runtime.

    Such as `1.32.0` on a CPU and `1.32.0, CUDA 13.0, cuDNN 9.12.0, NVIDIA L4` on a GPU; with the shapes that
    TensorRT was told, as a digest.
    """
    if provider == CPU:
        return library
    told = {name: version for name, version in versions.items() if version}
    if provider != TENSORRT:
        told.pop("TensorRT", None)  # another model of the process computes by it
    parts = [library, *(f"{name} {version}" for name, version in told.items()), gpu]
    return ", ".join([*parts, f"shapes {shapes_digest(spec)}"] if provider == TENSORRT else parts)


def shapes_digest(spec: OnnxSpec) -> str:
    """Eight hex digits of all shapes, in whatever order they are written."""
    said = json.dumps({name: shapes.model_dump() for name, shapes in spec.shapes.items()}, sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:8]


def check_shapes_declared(spec: OnnxSpec, inputs: Mapping[str, TensorSpec], *, said_by: str) -> None:
    """Fail where TensorRT would make an engine anew for batches of a new shape.

    Vectors would depend on the batches before, and each new engine takes minutes.

    Raises:
        ModelError: An input has a free dimension, and `shapes` does not say how it is fed.
    """
    free = [
        name
        for name, tensor in inputs.items()
        if any(not isinstance(size, int) for size in tensor.shape) and name not in spec.shapes
    ]
    if free:
        raise ModelError(
            f"{said_by}: TensorRT needs the shapes of {', '.join(free)}",
            hint=f"add `shapes: {{{free[0]}: {{min: [...], opt: [...], max: [...]}}}}` to model.yaml",
        )


def check_shapes_fed(
    ranges: Mapping[str, ShapeRange], feeds: Mapping[str, npt.NDArray[Any]], *, said_by: str
) -> None:
    """Fail where a batch is outside of what TensorRT's engine was built for.

    Raises:
        ModelError: It is.
    """
    for name, shapes in ranges.items():
        shape = feeds[name].shape if name in feeds else shapes.opt
        fits = len(shape) == len(shapes.min) and all(
            low <= size <= high for low, size, high in zip(shapes.min, shape, shapes.max, strict=True)
        )
        if not fits:
            raise ModelError(
                f"{said_by}: {name} of the shape {list(shape)} is not within its `shapes`, from "
                f"{list(shapes.min)} to {list(shapes.max)}",
                hint="widen `shapes` in model.yaml, or make batches smaller in pipeline.yaml",
            )
