"""What of a host's driver goes into a container that no NVIDIA runtime prepares.

Nodes of one GPU and no other, and each library as a mount of its own: under the name that programs load it
by, and under its real name, by which libraries of the driver load each other. So no link has to be made
anywhere, and nothing is left on the host (docs/decisions/0034).
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from embedmill.errors import DeviceUnavailable

if TYPE_CHECKING:
    from embedmill.spec.host import DriverFiles, GpuFacts, HostFacts, MigDevice

LIBRARIES = "/usr/local/nvidia/lib64"
PROGRAMS = "/usr/local/nvidia/bin"
"""Where many images look for the driver by themselves."""
NEEDED = ("/dev/nvidiactl", "/dev/nvidia-uvm")
WANTED = ("/dev/nvidia-uvm-tools",)
CUDA = "libcuda.so.1"


class Mount(NamedTuple):
    """A file of the host, and where a container sees it."""

    source: str
    target: str


def nodes_for(facts: HostFacts, gpu: GpuFacts, mig: MigDevice | None = None) -> tuple[str, ...]:
    """Device nodes of one GPU, or of one slice of it.

    Raises:
        DeviceUnavailable: One is not there.
    """
    files = facts.driver_files
    if gpu.minor is None:
        raise DeviceUnavailable(f"{facts.hostname}: the minor number of GPU {gpu.index} could not be learned")
    own = f"/dev/nvidia{gpu.minor}"
    for node in (*NEEDED, own):
        if node not in files.nodes:
            raise DeviceUnavailable(f"{facts.hostname}: no {node}", hint=_mended(files, node))
    slices = () if mig is None else _capabilities(facts, gpu.minor, mig)
    return (NEEDED[0], own, NEEDED[1], *(node for node in WANTED if node in files.nodes), *slices)


def mounts_of(facts: HostFacts) -> tuple[Mount, ...]:
    """The driver's libraries and programs.

    Raises:
        DeviceUnavailable: The one that CUDA begins with is not there.
    """
    files = facts.driver_files
    if CUDA not in {library.soname for library in files.libraries}:
        hint = _mended(files, "libcuda")
        raise DeviceUnavailable(f"{facts.hostname}: {CUDA} of driver {facts.driver} was not found", hint=hint)
    found = [
        Mount(library.path, f"{LIBRARIES}/{name}")
        for library in files.libraries
        for name in sorted({library.soname, PurePosixPath(library.path).name})
    ]
    found += [Mount(path, f"{PROGRAMS}/{PurePosixPath(path).name}") for path in files.programs]
    return tuple(found)


def _capabilities(facts: HostFacts, minor: int, mig: MigDevice) -> tuple[str, ...]:
    """The nodes that open a slice: of its GPU instance, and of its compute instance."""
    instance = f"gpu{minor}/gi{mig.gpu_instance}"
    known = facts.driver_files.capabilities
    wanted = (instance, f"{instance}/ci{mig.compute_instance}")
    for name in wanted:
        if name not in known:
            raise DeviceUnavailable(
                f"{facts.hostname}: no node in /dev/nvidia-caps for {name} of {mig.uuid}",
                hint="as root, `nvidia-modprobe -f /proc/driver/nvidia/capabilities/…/access` makes it",
            )
    return tuple(known[name] for name in wanted)


def _mended(files: DriverFiles, what: str) -> str:
    """What the host itself said of it."""
    return next((problem for problem in files.problems if what in problem), "")
