"""Who is on a GPU, asked of NVML: the driver's library, called as its C header says.

https://docs.nvidia.com/deploy/nvml-api: nvmlDeviceGetMemoryInfo_v2, nvmlDeviceGetComputeRunningProcesses_v3.
"""

from __future__ import annotations

import ctypes
from typing import Any

from embedmill.devices.processes import name_of
from embedmill.devices.watch import Occupant, Sample

LIBRARY = "libnvidia-ml.so.1"
SUCCESS, INSUFFICIENT_SIZE = 0, 7
NOT_TOLD = 2**64 - 1
ROOM = 64


class GpuUnknown(Exception):
    """NVML told nothing; says which call failed, and how."""


class _Memory(ctypes.Structure):
    _fields_ = [
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    ]


class _Memory2(ctypes.Structure):
    _fields_ = [
        ("version", ctypes.c_uint),
        ("total", ctypes.c_ulonglong),
        ("reserved", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    ]


class _Process(ctypes.Structure):
    _fields_ = [
        ("pid", ctypes.c_uint),
        ("used", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    ]


class _Utilisation(ctypes.Structure):
    _fields_ = [("gpu", ctypes.c_uint), ("memory", ctypes.c_uint)]


class Gpus:
    """The GPUs of this host. Not to be shared between processes: open it after a fork."""

    def __init__(self) -> None:
        """Load NVML.

        Raises:
            GpuUnknown: There is no driver, or it does not answer.
        """
        try:
            self._library = ctypes.CDLL(LIBRARY)
        except OSError as error:
            raise GpuUnknown(f"NVML: {error}") from None
        self._handles: dict[str, ctypes.c_void_p] = {}
        self._call("nvmlInit_v2")

    def sample(self, uuid: str) -> Sample:
        """The GPU as it is now.

        Raises:
            GpuUnknown: There is none, or the driver told nothing.
        """
        handle = self._handle(uuid)
        kinds = ("nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses")
        found = {each.pid: each for kind in kinds for each in self._processes(handle, kind)}
        return Sample(tuple(found.values()), self._used(handle), self._utilisation(handle))

    def _handle(self, uuid: str) -> ctypes.c_void_p:
        if uuid not in self._handles:
            handle = ctypes.c_void_p()
            self._call("nvmlDeviceGetHandleByUUID", uuid.encode(), ctypes.byref(handle))
            self._handles[uuid] = handle
        return self._handles[uuid]

    def _used(self, handle: ctypes.c_void_p) -> int:
        """Without what the driver reserves, where it tells that apart."""
        if self._has("nvmlDeviceGetMemoryInfo_v2"):
            newer = _Memory2(version=ctypes.sizeof(_Memory2) | 2 << 24)
            if self._library.nvmlDeviceGetMemoryInfo_v2(handle, ctypes.byref(newer)) == SUCCESS:
                return int(newer.used)
        memory = _Memory()
        self._call("nvmlDeviceGetMemoryInfo", handle, ctypes.byref(memory))
        return int(memory.used)

    def _processes(self, handle: ctypes.c_void_p, function: str) -> list[Occupant]:
        name = next((each for each in (f"{function}_v3", f"{function}_v2") if self._has(each)), None)
        if name is None:
            raise GpuUnknown(f"NVML has no {function}_v2: the driver is too old")
        for room in (ROOM, 16 * ROOM):
            count, found = ctypes.c_uint(room), (_Process * room)()
            code = getattr(self._library, name)(handle, ctypes.byref(count), found)
            if code != INSUFFICIENT_SIZE:
                break
        if code != SUCCESS:
            raise GpuUnknown(f"NVML: {name} failed with {code}")
        return [
            Occupant(each.pid, name_of(each.pid), None if each.used == NOT_TOLD else int(each.used))
            for each in found[: count.value]
        ]

    def _utilisation(self, handle: ctypes.c_void_p) -> int | None:
        found = _Utilisation()
        code = self._library.nvmlDeviceGetUtilizationRates(handle, ctypes.byref(found))
        return int(found.gpu) if code == SUCCESS else None

    def _has(self, name: str) -> bool:
        return hasattr(self._library, name)

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code != SUCCESS:
            raise GpuUnknown(f"NVML: {name} failed with {code}")


def occupants(uuid: str) -> list[Occupant]:
    """Processes with a context on a GPU, by the host's pids.

    Raises:
        GpuUnknown: NVML told nothing.
    """
    return list(Gpus().sample(uuid).processes)


def used_bytes(uuid: str) -> int:
    """Memory of a GPU that is in use.

    Raises:
        GpuUnknown: NVML told nothing.
    """
    return Gpus().sample(uuid).used_bytes
