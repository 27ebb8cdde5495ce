"""What a GPU server tells of itself: the probe's answer, made there by the standard library alone.

None means that it could not be learned, and never that all is well.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from embedmill.spec.document import Document, Part

Version = tuple[int, int]
"""(major, minor): of CUDA, or a compute capability."""


class GpuProcess(Part):
    """A process with a context on a GPU, by its pid on the host. `ours`: a worker of Embedmill."""

    pid: int
    name: str | None = None
    user: str | None = None
    used_bytes: int | None = None
    kind: Literal["compute", "graphics"] = "compute"
    ours: bool = False


class MigDevice(Part):
    """A slice of a GPU in MIG mode; it has no utilisation. `lease`: who holds Embedmill's lock on it."""

    uuid: str
    profile: str
    memory_bytes: int
    used_bytes: int
    processes: tuple[GpuProcess, ...] = ()
    gpu_instance: int | None = None
    compute_instance: int | None = None
    lease: str | None = None


class Health(Part):
    """`xids`: numbers of Xid events since boot; None where neither a kernel log nor an event watch tells."""

    ecc_uncorrected: int | None = None
    remap_pending: bool | None = None
    remap_failed: bool | None = None
    xids: tuple[int, ...] | None = None


class GpuFacts(Part):
    """One GPU. `minor` is NVML's minor number, which names `/dev/nvidia<minor>`, and no index.

    `utilisation`: percent, one for each sample of the window. `holders`: pids that have the device node open,
    whether NVML lists them or not. `allocations`: what schedulers gave the GPU to, in
    words. `lease`: who holds Embedmill's lock on it.
    """

    index: int
    uuid: str
    name: str
    memory_bytes: int
    used_bytes: int
    minor: int | None = None
    pci_bus_id: str | None = None
    compute_capability: Version | None = None
    brand: str | None = None
    utilisation: tuple[int, ...] = ()
    most_used_bytes: int | None = None
    processes: tuple[GpuProcess, ...] | None = None
    holders: tuple[int, ...] | None = None
    compute_mode: Literal["default", "exclusive", "prohibited"] | None = None
    persistence: bool | None = None
    display: bool | None = None
    mig: bool | None = None
    mig_devices: tuple[MigDevice, ...] = ()
    health: Health = Health()
    allocations: tuple[str, ...] = ()
    lease: str | None = None


class ContainerTool(Part):
    """`podman` or `docker` as it is installed. `nvidia`: the NVIDIA toolkit serves it (CDI or `--gpus`)."""

    name: Literal["podman", "docker"]
    version: str
    runtimes: tuple[str, ...] = ()
    rootless: bool | None = None
    nvidia: bool = False


class DriverLibrary(Part):
    """A file of the driver: where it is, and the name that programs load it by."""

    path: str
    soname: str


class DriverFiles(Part):
    """What a container needs of this host's driver, of exactly its version.

    `capabilities`: a slice of a GPU in MIG mode, such as `gpu0/gi1` or `gpu0/gi1/ci0` (by minor number), and
    the node that opens it. `problems`: what lacks, and what mends it.
    """

    nodes: tuple[str, ...] = ()
    libraries: tuple[DriverLibrary, ...] = ()
    programs: tuple[str, ...] = ()
    capabilities: dict[str, str] = Field(default_factory=dict)
    problems: tuple[str, ...] = ()


class HostFacts(Document):
    """`host`: one server. `problems`: what could not be learned, and why, in words.

    `namespaced`: pids here are not the host's, so that an empty table of processes says nothing.
    `source`: what answered; `nvidia-smi` tells less than NVML. `uid`, `gid`: of who asked.
    """

    SCHEMA: ClassVar[str] = "host/1"

    hostname: str
    taken: str
    window_s: float
    source: Literal["nvml", "nvidia-smi", "none"]
    driver: str | None = None
    cuda: Version | None = None
    gpus: tuple[GpuFacts, ...] = ()
    python: str | None = None
    kernel: str | None = None
    machine: str | None = None
    memory_bytes: int | None = None
    cores: int | None = None
    uid: int | None = None
    gid: int | None = None
    namespaced: bool = False
    tools: tuple[ContainerTool, ...] = ()
    driver_files: DriverFiles = DriverFiles()
    problems: tuple[str, ...] = ()
