"""A CUDA driver and a GPU build of ONNX Runtime, as far as they are asked: no GPU was there to ask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import onnxruntime


@dataclass
class Driver:
    """libcuda with GPUs of these names, all of capability 9.0 and 80 GiB; `broken` is what cuInit answers."""

    names: Sequence[str] = ("NVIDIA H100 80GB HBM3",)
    broken: int = 0

    def cuInit(self, flags: int) -> int:  # noqa: N802 - CUDA's name, as all of these
        return self.broken

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = len(self.names)
        return 0

    def cuDeviceGet(self, device: Any, index: int) -> int:  # noqa: N802
        device._obj.value = index
        return 0

    def cuDeviceGetName(self, name: Any, size: int, device: Any) -> int:  # noqa: N802
        name.value = self.names[device.value].encode()[: size - 1]
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> int:  # noqa: N802
        value._obj.value = {75: 9, 76: 0}[attribute]
        return 0

    def cuDeviceTotalMem_v2(self, size_bytes: Any, device: Any) -> int:  # noqa: N802
        size_bytes._obj.value = 80 << 30
        return 0

    def cuDriverGetVersion(self, version: Any) -> int:  # noqa: N802
        version._obj.value = 13010
        return 0


@dataclass
class GpuWheel:
    """The installed ONNX Runtime, which says that it was built with more than the CPU.

    Its sessions are the installed library's own, unless `sessions` takes them: then they are of whatever was
    asked for, or fail with `failure`.
    """

    providers: Sequence[str] = ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")
    sessions: list[dict[str, Any]] | None = None
    failure: Exception | None = None
    cuda_version: str = "13.0"
    preloaded: int = 0
    inputs: Sequence[Any] = field(default=(SimpleNamespace(name="x", type="tensor(float)", shape=[2, 3]),))

    def __getattr__(self, name: str) -> Any:
        return getattr(onnxruntime, name)

    def get_available_providers(self) -> list[str]:
        return list(self.providers)

    def preload_dlls(self) -> None:
        print("Failed to load libcublasLt.so.13")  # noqa: T201 - as the real one does
        self.preloaded += 1

    def InferenceSession(self, file: str, **options: Any) -> Any:  # noqa: N802 - ONNX Runtime's name
        if self.failure is not None:
            raise self.failure
        if self.sessions is None:
            return onnxruntime.InferenceSession(file, **options)
        self.sessions.append(options)
        used = [name for name, _ in options["providers"]]
        return SimpleNamespace(get_providers=lambda: used, get_inputs=lambda: list(self.inputs))
