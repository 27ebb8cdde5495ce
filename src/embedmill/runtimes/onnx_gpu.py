"""Makes a process ready for a session of ONNX Runtime on a GPU, and says what computes there."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import re
from collections.abc import Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedmill.errors import DeviceUnavailable
from embedmill.runtimes.base import Place
from embedmill.runtimes.cuda_driver import Gpu, find_gpu, load_driver
from embedmill.runtimes.onnx_engines import engine_folder, kept
from embedmill.runtimes.onnx_providers import (
    TENSORRT,
    Options,
    check_available,
    provider_of,
    provider_options,
)
from embedmill.spec import OnnxSpec

TF32_OVERRIDE = "NVIDIA_TF32_OVERRIDE"
FATAL = 4
"""Log level: errors reach the user as exceptions, and once."""
MAPS = Path("/proc/self/maps")
PROVIDER_LIBRARIES = {
    TENSORRT: "libonnxruntime_providers_tensorrt.so",
    "CUDAExecutionProvider": "libonnxruntime_providers_cuda.so",
}


@dataclass(frozen=True)
class Prepared:
    """What a session is to be created with, and the GPU that it will be on."""

    providers: list[tuple[str, Options]]
    gpu: Gpu


@contextlib.contextmanager
def prepared(
    library: Any, spec: OnnxSpec, place: Place, files: Sequence[Path], *, driver: Any | None = None
) -> Iterator[Prepared]:
    """All that must be so before a session is created, which is to happen within the `with` block.

    Args:
        library: The module `onnxruntime`.
        spec: The section of the package.
        place: A GPU.
        files: The ONNX file, and those with its tensors.
        driver: The CUDA driver; where absent it is loaded.

    Raises:
        DeviceUnavailable: The installed library has no such provider, or the machine no such GPU.
    """
    provider = provider_of(spec, place)
    check_available(provider, library.get_available_providers(), version=library.__version__)
    gpu = find_gpu(load_driver() if driver is None else driver, place.index)
    library.set_default_logger_severity(
        FATAL
    )  # providers write there what errors say, whatever a session's is
    _preload(library)
    if provider != TENSORRT:
        yield Prepared(provider_options(spec, place), gpu)
        return
    if place.precision == "float32":
        keep_tf32_off(os.environ, MAPS.read_text())
    load_tensorrt(provider_library(library, TENSORRT))
    if place.cache is None:
        yield Prepared(provider_options(spec, place), gpu)
        return
    versions = {"ONNX Runtime": library.__version__, **gpu_versions(library)}
    folder = engine_folder(
        place.cache, gpu=gpu, versions=versions, files=files, spec=spec, precision=place.precision
    )
    with kept(folder) as engines:
        yield Prepared(provider_options(spec, place, engines=engines), gpu)


def keep_tf32_off(environment: MutableMapping[str, str], loaded: str) -> None:
    """Let TensorRT multiply float32 as it is.

    It rounds to TF32 by default, and ONNX Runtime has no option for that but this variable, which TensorRT
    reads once in a process (microsoft/onnxruntime, issues 6427 and 26029).

    Args:
        environment: The process's.
        loaded: /proc/self/maps.

    Raises:
        DeviceUnavailable: The variable says otherwise, or it is too late.
    """
    said = environment.get(TF32_OVERRIDE)
    if said not in (None, "0"):
        raise DeviceUnavailable(
            f"onnx: TensorRT would round to TF32: {TF32_OVERRIDE} is {said!r}",
            hint="unset it, or declare `precision: tf32`",
        )
    if said is None and "libnvinfer.so" in loaded:
        raise DeviceUnavailable(
            "onnx: TensorRT rounds to TF32 in this process, since its first model, and cannot change",
            hint=f"load models of another precision in other processes, or set {TF32_OVERRIDE}=0",
        )
    environment[TF32_OVERRIDE] = "0"


def load_tensorrt(provider: Path) -> None:
    """Load the TensorRT that a provider's library is linked to.

    Raises:
        DeviceUnavailable: It is not there, or of another major version.
    """
    try:
        found = re.search(rb"libnvinfer\.so\.\d+", provider.read_bytes())
        ctypes.CDLL("libnvinfer.so" if found is None else found[0].decode())
    except OSError as error:
        raise DeviceUnavailable(
            f"onnx: TensorRT cannot be loaded: {error}",
            hint="install that version of TensorRT, and name its folder in LD_LIBRARY_PATH",
        ) from None


def provider_library(library: Any, provider: str) -> Path:
    """The shared library of a provider."""
    return Path(library.__file__).parent / "capi" / PROVIDER_LIBRARIES[provider]


def gpu_versions(library: Any) -> dict[str, str]:
    """Of what computes on a GPU, as far as it is loaded; empty words where it is not."""
    return {
        "TensorRT": loaded_version("libnvinfer", "getInferLibVersion"),
        "CUDA": str(getattr(library, "cuda_version", None) or ""),
        "cuDNN": loaded_version("libcudnn", "cudnnGetVersion"),
    }


def loaded_version(name: str, function: str, *, maps: Path = MAPS) -> str:
    """The version that a library tells which this process has loaded; empty where it has not.

    `function` gives 10000 x major + 100 x minor + patch, as those of TensorRT 10 and cuDNN 9 do.
    """
    found = re.search(rf"(/\S*/{re.escape(name)}\.so\S*)", maps.read_text())
    if found is None:
        return ""
    number = getattr(ctypes.CDLL(found[1]), function)()
    return f"{number // 10_000}.{number // 100 % 100}.{number % 100}"


def why_not_loaded(library: Any, provider: str) -> str:
    """What the dynamic loader says of a provider's library: ONNX Runtime writes it to a log alone."""
    path = provider_library(library, provider)
    try:
        ctypes.CDLL(str(path.with_name("libonnxruntime_providers_shared.so")), ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(path))
    except OSError as error:
        return str(error)
    return ""


def _preload(library: Any) -> None:
    """Let the library load CUDA and cuDNN of pip's packages; what it prints of absent ones is told later.

    Before 1.21 it cannot, and finds them where the dynamic loader does.
    """
    if hasattr(library, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()):
            library.preload_dlls()
