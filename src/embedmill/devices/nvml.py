"""NVML through ctypes: every function may be absent (an older driver), fail, or hang.

Signatures and structures are those of nvml.h: https://docs.nvidia.com/deploy/nvml-api/
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

LIBRARY = "libnvidia-ml.so.1"
NOT_SUPPORTED, INSUFFICIENT_SIZE, DRIVER_NOT_LOADED, FUNCTION_NOT_FOUND = 3, 7, 9, 13
NOT_TOLD = (1 << 64) - 1
"""What NVML writes where it does not know how much memory a process has."""
NO_INSTANCE = 0xFFFFFFFF
TEXT_BYTES = 96
UNCORRECTED, SINCE_BOOT = 1, 0
COMPUTE_MODES = {0: "default", 1: "exclusive", 2: "prohibited", 3: "exclusive"}
BRANDS = (
    *("unknown", "quadro", "tesla", "nvs", "grid", "geforce", "titan", "vapps", "vpc", "vcs", "vws"),
    *("cloudgaming", "quadrortx", "nvidiartx", "nvidia", "geforcertx", "titanrtx"),
)
"""By NVML's number; spelt as in the requirements of images."""


HINTS = {
    4: "this user may not use /dev/nvidia*",
    9: "the driver's module is not loaded: `modprobe nvidia`, or restart",
    15: "it has fallen off the bus: a restart, or somebody who looks at it",
    16: "it must be reset, or the server restarted",
    18: "the driver was updated while it was loaded: restart, or unload and load its modules",
    999: "in a container: its devices were taken away; else `dmesg` may say more",
}


class NvmlAbsent(Exception):
    """There is no library of the driver here."""


class NvmlError(Exception):
    """A function is absent, or gave an error."""

    def __init__(self, function: str, code: int, words: str) -> None:
        """`words`: what NVML calls the code."""
        hint = f"; {HINTS[code]}" if code in HINTS else ""
        super().__init__(f"{function}: {words} ({code}){hint}")
        self.code = code

    @property
    def unsupported(self) -> bool:
        """Whether this GPU or driver just does not have it."""
        return self.code in (NOT_SUPPORTED, FUNCTION_NOT_FOUND)


class Occupant(NamedTuple):
    """A process with a context; the instances are those of MIG."""

    pid: int
    used_bytes: int | None
    kind: str
    gpu_instance: int | None
    compute_instance: int | None


class _Memory(ctypes.Structure):
    _fields_ = [("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong)]


class _MemoryV2(ctypes.Structure):
    _fields_ = [
        ("version", ctypes.c_uint),
        ("total", ctypes.c_ulonglong),
        ("reserved", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    ]


class _Rates(ctypes.Structure):
    _fields_ = [("gpu", ctypes.c_uint), ("memory", ctypes.c_uint)]


class _ProcessV1(ctypes.Structure):
    _fields_ = [("pid", ctypes.c_uint), ("used", ctypes.c_ulonglong)]


class _ProcessV2(ctypes.Structure):
    _fields_ = [
        ("pid", ctypes.c_uint),
        ("used", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    ]


class _Pci(ctypes.Structure):
    _fields_ = [
        ("legacy", ctypes.c_char * 16),
        ("domain", ctypes.c_uint),
        ("bus", ctypes.c_uint),
        ("device", ctypes.c_uint),
        ("id", ctypes.c_uint),
        ("subsystem", ctypes.c_uint),
        ("bus_id", ctypes.c_char * 32),
    ]


Handle = ctypes.c_void_p


class Nvml:
    """The library, initialised. `calling` hears of a function before it is called: it may never return."""

    def __init__(self, calling: Callable[[str], object] = len) -> None:
        """Load it, and initialise it.

        Raises:
            NvmlAbsent: There is no such library.
            NvmlError: The driver does not answer.
        """
        try:
            self._library = ctypes.CDLL(LIBRARY)
        except OSError as error:
            raise NvmlAbsent(str(error)) from None
        self._calling = calling
        self._call("nvmlInit_v2")

    def driver(self) -> str:
        """Its version, such as 535.183.01."""
        return self._text("nvmlSystemGetDriverVersion")

    def cuda(self) -> tuple[int, int]:
        """The newest CUDA that the driver knows."""
        number = self._number("nvmlSystemGetCudaDriverVersion_v2")
        return number // 1000, number % 1000 // 10

    def count(self) -> int:
        """GPUs."""
        return self._number("nvmlDeviceGetCount_v2")

    def gpu(self, index: int) -> Handle:
        """A GPU by its index."""
        return self._handle("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index))

    def name(self, handle: Handle) -> str:
        """The product's name."""
        return self._text("nvmlDeviceGetName", handle)

    def uuid(self, handle: Handle) -> str:
        """Its UUID."""
        return self._text("nvmlDeviceGetUUID", handle)

    def minor(self, handle: Handle) -> int:
        """The number in the name of its device node."""
        return self._number("nvmlDeviceGetMinorNumber", handle)

    def bus(self, handle: Handle) -> str:
        """Its place on the PCI bus, such as 00000000:3B:00.0."""
        pci = _Pci()
        self._call("nvmlDeviceGetPciInfo_v3", handle, ctypes.byref(pci))
        return str(pci.bus_id.decode(errors="replace"))

    def capability(self, handle: Handle) -> tuple[int, int]:
        """Compute capability."""
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._call("nvmlDeviceGetCudaComputeCapability", handle, ctypes.byref(major), ctypes.byref(minor))
        return major.value, minor.value

    def brand(self, handle: Handle) -> str:
        """Such as `tesla`."""
        number = self._number("nvmlDeviceGetBrand", handle)
        return BRANDS[number] if 0 <= number < len(BRANDS) else f"brand {number}"

    def memory(self, handle: Handle) -> tuple[int, int]:
        """Bytes in all, and in use: without what the driver keeps for itself, where it tells that apart."""
        apart = _MemoryV2(version=ctypes.sizeof(_MemoryV2) | 2 << 24)
        try:
            self._call("nvmlDeviceGetMemoryInfo_v2", handle, ctypes.byref(apart))
            return apart.total, apart.used
        except NvmlError:
            plain = _Memory()
            self._call("nvmlDeviceGetMemoryInfo", handle, ctypes.byref(plain))
            return plain.total, plain.used

    def utilisation(self, handle: Handle) -> int:
        """Percent of the last sample period with a kernel running."""
        rates = _Rates()
        self._call("nvmlDeviceGetUtilizationRates", handle, ctypes.byref(rates))
        return int(rates.gpu)

    def processes(self, handle: Handle) -> list[Occupant]:
        """All that have a context, by the host's pids."""
        return [*self._processes(handle, "Compute"), *self._processes(handle, "Graphics")]

    def compute_mode(self, handle: Handle) -> str | None:
        """Who may make contexts."""
        return COMPUTE_MODES.get(self._number("nvmlDeviceGetComputeMode", handle))

    def persistence(self, handle: Handle) -> bool:
        """Whether the driver stays loaded while nobody uses the GPU."""
        return bool(self._number("nvmlDeviceGetPersistenceMode", handle))

    def display(self, handle: Handle) -> bool:
        """Whether it shows a screen."""
        return bool(self._number("nvmlDeviceGetDisplayActive", handle))

    def ecc_uncorrected(self, handle: Handle) -> int:
        """Uncorrected errors of memory since the driver was loaded."""
        count = ctypes.c_ulonglong()
        self._call("nvmlDeviceGetTotalEccErrors", handle, UNCORRECTED, SINCE_BOOT, ctypes.byref(count))
        return count.value

    def remapped_rows(self, handle: Handle) -> tuple[bool, bool]:
        """Whether a remapping is pending, and whether one failed."""
        counts = [ctypes.c_uint() for _ in range(4)]
        self._call("nvmlDeviceGetRemappedRows", handle, *map(ctypes.byref, counts))
        return bool(counts[2].value), bool(counts[3].value)

    def mig(self, handle: Handle) -> bool:
        """Whether it is in MIG mode."""
        current, pending = ctypes.c_uint(), ctypes.c_uint()
        self._call("nvmlDeviceGetMigMode", handle, ctypes.byref(current), ctypes.byref(pending))
        return current.value == 1

    def mig_devices(self, handle: Handle) -> list[Handle]:
        """Its slices: indices may have gaps."""
        found = []
        for index in range(self._number("nvmlDeviceGetMaxMigDeviceCount", handle)):
            try:
                found.append(
                    self._handle("nvmlDeviceGetMigDeviceHandleByIndex", handle, ctypes.c_uint(index))
                )
            except NvmlError:
                continue
        return found

    def instances(self, handle: Handle) -> tuple[int, int]:
        """GPU instance and compute instance of a slice."""
        return (
            self._number("nvmlDeviceGetGpuInstanceId", handle),
            self._number("nvmlDeviceGetComputeInstanceId", handle),
        )

    def _processes(self, handle: Handle, kind: str) -> list[Occupant]:
        base = f"nvmlDeviceGet{kind}RunningProcesses"
        for name, structure in ((f"{base}_v3", _ProcessV2), (f"{base}_v2", _ProcessV2), (base, _ProcessV1)):
            try:
                return [_occupant(each, kind.lower()) for each in self._listed(name, structure, handle)]
            except NvmlError as error:
                if error.code != FUNCTION_NOT_FOUND or name == base:
                    raise
        return []

    def _listed(self, name: str, structure: Any, handle: Handle) -> list[Any]:
        """The table; it may have grown since its length was told."""
        room = 64
        while True:
            count, table = ctypes.c_uint(room), (structure * room)()
            try:
                self._call(name, handle, ctypes.byref(count), table)
                return list(table[: count.value])
            except NvmlError as error:
                if error.code != INSUFFICIENT_SIZE or room > 1 << 16:
                    raise
                room = 2 * max(room, count.value)

    def _text(self, name: str, *arguments: Any) -> str:
        text = ctypes.create_string_buffer(TEXT_BYTES)
        self._call(name, *arguments, text, ctypes.c_uint(TEXT_BYTES))
        return text.value.decode(errors="replace")

    def _number(self, name: str, *arguments: Any) -> int:
        number = ctypes.c_int()
        self._call(name, *arguments, ctypes.byref(number))
        return number.value

    def _handle(self, name: str, *arguments: Any) -> Handle:
        handle = Handle()
        self._call(name, *arguments, ctypes.byref(handle))
        return handle

    def _call(self, name: str, *arguments: Any) -> None:
        self._calling(name)
        function = getattr(self._library, name, None)
        if function is None:
            raise NvmlError(name, FUNCTION_NOT_FOUND, "this driver does not have it")
        code = function(*arguments)
        if code:
            raise NvmlError(name, code, self._words(code))

    def _words(self, code: int) -> str:
        function = getattr(self._library, "nvmlErrorString", None)
        if function is None:
            return "error"
        function.restype = ctypes.c_char_p
        return str((function(code) or b"error").decode(errors="replace"))


def _occupant(entry: Any, kind: str) -> Occupant:
    used = None if entry.used == NOT_TOLD else int(entry.used)
    instances = [getattr(entry, name, NO_INSTANCE) for name in ("gpu_instance", "compute_instance")]
    gpu, compute = (None if each == NO_INSTANCE else int(each) for each in instances)
    return Occupant(int(entry.pid), used, kind, gpu, compute)
