"""Who is on a GPU, asked of NVML, by the GPU's UUID."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from embedmill.devices.nvml import Nvml, NvmlAbsent, NvmlError
from embedmill.devices.procfs import described
from embedmill.devices.watch import Occupant, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedmill.devices.nvml import Handle


class GpuUnknown(Exception):
    """NVML told nothing; says which call failed, and how."""


class Gpus:
    """The GPUs of this host. Not to be shared between processes: open it after a fork."""

    def __init__(self) -> None:
        """Load NVML.

        Raises:
            GpuUnknown: There is no driver, or it does not answer.
        """
        with _translated():
            self._nvml = Nvml()
        self._handles: dict[str, Handle] = {}

    def sample(self, uuid: str) -> Sample:
        """The GPU as it is now.

        Raises:
            GpuUnknown: There is none, or the driver told nothing.
        """
        with _translated():
            handle = self._handle(uuid)
            found = {each.pid: each.used_bytes for each in self._nvml.processes(handle)}
            used = self._nvml.memory(handle)[1]
        processes = tuple(
            Occupant(pid, described(pid)["name"] or "?", used_bytes) for pid, used_bytes in found.items()
        )
        return Sample(processes, used, self._utilisation(handle))

    def _handle(self, uuid: str) -> Handle:
        if uuid not in self._handles:
            self._handles.update(self._found())
        if uuid not in self._handles:
            raise GpuUnknown("there is no such GPU here")
        return self._handles[uuid]

    def _found(self) -> Iterator[tuple[str, Handle]]:
        for index in range(self._nvml.count()):
            with contextlib.suppress(NvmlError):  # one that is lost hides none of the others
                handle = self._nvml.gpu(index)
                yield self._nvml.uuid(handle), handle
                for part in self._nvml.mig_devices(handle):  # slices are asked like GPUs
                    yield self._nvml.uuid(part), part

    def _utilisation(self, handle: Handle) -> int | None:
        try:
            return self._nvml.utilisation(handle)
        except NvmlError:
            return None


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (NvmlAbsent, NvmlError) as error:
        raise GpuUnknown(f"NVML: {error}") from None


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
