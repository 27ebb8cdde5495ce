"""Takes memory of a GPU as a training job would: by CUDA's driver API, for so many seconds.

It is how `fleet prove` sees whether a worker leaves when somebody else comes.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time

LIBRARY = "libcuda.so.1"
MIB = 1 << 20


class CudaFailed(Exception):
    """A call of the driver did not succeed."""


class Uuid(ctypes.Structure):
    """CUuuid, as NVML writes it behind `GPU-` or `MIG-`."""

    _fields_ = [("bytes", ctypes.c_ubyte * 16)]

    def __str__(self) -> str:
        plain = bytes(self.bytes).hex()
        return "-".join((plain[:8], plain[8:12], plain[12:16], plain[16:20], plain[20:]))


def main() -> int:
    """`occupy UUID MIB SECONDS`: prints `{"pid": …, "mib": …}` once it has the memory."""
    uuid, mib, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    if uuid.startswith("MIG-"):
        os.environ["CUDA_VISIBLE_DEVICES"] = uuid  # a slice is seen by who names it alone
    try:
        cuda = ctypes.CDLL(LIBRARY)
        _take(cuda, _device(cuda, uuid), mib)
    except (OSError, CudaFailed) as error:
        sys.stderr.write(f"{LIBRARY}: {error}\n")
        return 1
    sys.stdout.write(json.dumps({"pid": os.getpid(), "mib": mib}) + "\n")
    sys.stdout.flush()
    time.sleep(seconds)
    return 0


def _device(cuda: ctypes.CDLL, uuid: str) -> ctypes.c_int:
    _call(cuda, "cuInit", ctypes.c_uint(0))
    count, device, found = ctypes.c_int(), ctypes.c_int(), Uuid()
    _call(cuda, "cuDeviceGetCount", ctypes.byref(count))
    for index in range(count.value):
        _call(cuda, "cuDeviceGet", ctypes.byref(device), ctypes.c_int(index))
        _call(cuda, "cuDeviceGetUuid", ctypes.byref(found), device)
        if str(found) == uuid.partition("-")[2]:
            return device
    raise CudaFailed(f"no GPU {uuid} among {count.value}")


def _take(cuda: ctypes.CDLL, device: ctypes.c_int, mib: int) -> None:
    context, memory = ctypes.c_void_p(), ctypes.c_uint64()
    _call(cuda, "cuCtxCreate_v2", ctypes.byref(context), ctypes.c_uint(0), device)
    _call(cuda, "cuMemAlloc_v2", ctypes.byref(memory), ctypes.c_size_t(mib * MIB))


def _call(cuda: ctypes.CDLL, name: str, *arguments: object) -> None:
    code = getattr(cuda, name)(*arguments)
    if code:
        raise CudaFailed(f"{name} answered {code}")
