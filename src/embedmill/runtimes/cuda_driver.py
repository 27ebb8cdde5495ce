"""What the CUDA driver says of a GPU, asked by its C interface: no package is needed for that.

Functions and numbers of attributes: docs.nvidia.com/cuda/cuda-driver-api, Device Management. Unlike NVML, the
driver numbers GPUs as CUDA programs do: after CUDA_VISIBLE_DEVICES.
"""

from __future__ import annotations

import ctypes
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedmill.errors import DeviceUnavailable

LIBRARY = "libcuda.so.1"
VERSION_FILE = Path("/proc/driver/nvidia/version")
MAJOR, MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR."""
NAME_BYTES = 256


@dataclass(frozen=True)
class Gpu:
    """A GPU and its driver: `capability` such as `9.0`; `driver` such as `580.65.06`, empty if untold."""

    name: str
    capability: str
    cuda: str
    """The newest CUDA that the driver knows, such as `13.0`."""
    driver: str


def load_driver() -> Any:
    """The driver's library.

    Raises:
        DeviceUnavailable: There is none.
    """
    try:
        return ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise DeviceUnavailable(
            f"no GPU: the NVIDIA driver cannot be loaded: {error}",
            hint=f"install the driver, or mount {LIBRARY} and /dev/nvidia* into the container",
        ) from None


def find_gpu(driver: Any, index: int, *, version_file: Path = VERSION_FILE) -> Gpu:
    """GPU `index`, as CUDA numbers them.

    Raises:
        DeviceUnavailable: There is none of this number, or the driver does not work.
    """
    device = _device(driver, index)
    major, minor, cuda = (ctypes.c_int() for _ in range(3))
    name = ctypes.create_string_buffer(NAME_BYTES)
    _call(driver, "cuDeviceGetName", name, NAME_BYTES, device)
    _call(driver, "cuDeviceGetAttribute", ctypes.byref(major), MAJOR, device)
    _call(driver, "cuDeviceGetAttribute", ctypes.byref(minor), MINOR, device)
    _call(driver, "cuDriverGetVersion", ctypes.byref(cuda))
    return Gpu(
        name=name.value.decode(errors="replace"),
        capability=f"{major.value}.{minor.value}",
        cuda=f"{cuda.value // 1000}.{cuda.value % 1000 // 10}",
        driver=driver_version(version_file),
    )


def gpu_memory_bytes(driver: Any, index: int) -> int:
    """Memory of GPU `index`, or of the slice that is shown in its place.

    Raises:
        DeviceUnavailable: As `find_gpu`.
    """
    device, size_bytes = _device(driver, index), ctypes.c_size_t()
    _call(driver, "cuDeviceTotalMem_v2", ctypes.byref(size_bytes), device)
    return size_bytes.value


def driver_version(version_file: Path = VERSION_FILE) -> str:
    """Such as `580.65.06`; empty where the kernel does not say."""
    try:
        found = re.search(r"Kernel Module.*?\s(\d+(?:\.\d+)+)\s", version_file.read_text())
    except OSError:
        return ""
    return found[1] if found else ""


def _device(driver: Any, index: int) -> ctypes.c_int:
    _call(driver, "cuInit", 0)
    count, device = ctypes.c_int(), ctypes.c_int()
    _call(driver, "cuDeviceGetCount", ctypes.byref(count))
    if index >= count.value:
        raise DeviceUnavailable(
            f"no device cuda:{index}", hint=f"the driver shows {count.value}; see CUDA_VISIBLE_DEVICES"
        )
    _call(driver, "cuDeviceGet", ctypes.byref(device), index)
    return device


def _call(driver: Any, function: str, *arguments: Any) -> None:
    code = getattr(driver, function)(*arguments)
    if code != 0:
        raise DeviceUnavailable(
            f"no GPU: the NVIDIA driver answers {function} with error {code}",
            hint="does `nvidia-smi` work here? 100: no GPU is visible, 803: driver and libcuda differ",
        )
