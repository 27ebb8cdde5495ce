"""The argument vector that starts a worker in a container on a GPU server; `worker …` is appended to it.

Where the NVIDIA toolkit is installed, it is asked for one GPU by its UUID. Where it is not, the container
gets what the toolkit would have given it: see `driver`. Nothing secret is in the vector, or in a variable:
anybody on the server may read both. What is secret comes through stdin.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from embedmill.errors import DeviceUnavailable, SpecError
from embedmill.fleet.driver import LIBRARIES, mounts_of, nodes_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedmill.spec.fleet import RoomSpec, ServerSpec
    from embedmill.spec.fleet_reports import Rule
    from embedmill.spec.host import ContainerTool, GpuFacts, HostFacts, MigDevice
    from embedmill.spec.images import ImageSpec

NOBODY = 10001
"""Who works in a container whose server is asked as root."""
TEMPORARY = "/tmp"  # noqa: S108 - in the container, where it is a disk of its own
CONFINED = ("--read-only", "--cap-drop=all", "--security-opt=no-new-privileges")
YIELDING = ("--oom-score-adj=1000", "--stop-timeout=1")
"""Where a server runs out of memory, what is borrowed ends first; who stops a worker has waited already."""
NETWORKS = ("--network", "--net")


@dataclass(frozen=True)
class Room:
    """What a worker may use of a server.

    Temporary files, so also the model package of a store that is no folder, lie in memory, unless `scratch`
    names a folder of the server. `gpu_memory_mib`: of its GPU, None: as much as the model takes. `offline`:
    the container has no network, for stores that are folders.
    """

    memory_mib: int = 16384
    scratch_mib: int = 4096
    scratch: str | None = None
    processes: int = 4096
    gpu_memory_mib: int | None = None
    threads: int = 1
    offline: bool = False

    def within(self, spec: RoomSpec) -> Room:
        """The same, as far as fleet.yaml says nothing else."""
        return replace(self, **spec.model_dump(exclude_none=True))


@dataclass(frozen=True)
class Borrowed:
    """A GPU, or a slice of one, and the rule by which the image was matched to it."""

    gpu: GpuFacts
    mig: MigDevice | None = None
    rule: Rule = "native"

    @property
    def uuid(self) -> str:
        """Of the slice, where there is one."""
        return (self.mig or self.gpu).uuid

    @property
    def name(self) -> str:
        """The type of GPU, and of the slice."""
        return self.gpu.name if self.mig is None else f"{self.gpu.name} {self.mig.profile}"

    @property
    def used_bytes(self) -> int:
        """Memory in use, of the slice where there is one."""
        return (self.mig or self.gpu).used_bytes

    @property
    def lease(self) -> str | None:
        """Who holds Embedmill's lock on it."""
        return (self.mig or self.gpu).lease


def borrowed_of(facts: HostFacts, uuid: str, rule: Rule = "native") -> Borrowed:
    """The GPU of a server, or the slice of one, that has this UUID.

    Raises:
        DeviceUnavailable: There is none.
    """
    for gpu in facts.gpus:
        for mig in (None, *gpu.mig_devices):
            if (gpu.uuid if mig is None else mig.uuid) == uuid:
                return Borrowed(gpu, mig, rule)
    raise DeviceUnavailable(f"{facts.hostname}: there is no GPU {uuid}")


def container_command(
    facts: HostFacts,
    borrowed: Borrowed | None,
    image: ImageSpec,
    server: ServerSpec,
    *,
    worker: str,
    run: str,
    room: Room = Room(),
) -> tuple[str, ...]:
    """`podman run …` or `docker run …`, with image and command; `borrowed` is None for CPUs.

    Raises:
        DeviceUnavailable: The server has no tool for containers, or lacks a node or library.
        SpecError: The image has no compat package, which the rule `forward` needs.
    """
    tool = chosen_tool(facts, server)
    if image.device == "cuda" and borrowed is None:
        raise SpecError(f"{image.image}: computes on GPUs, and no GPU is given to it")
    gpu = borrowed if image.device == "cuda" else None
    program, *more = image.command
    return (
        *(tool.name, "run", "--interactive", "--rm", f"--name={container_name(run, worker)}"),
        *(f"--label=embedmill.run={run}", f"--label=embedmill.worker={worker}"),
        *("--log-driver=none", f"--pull={_pull(image)}"),
        *(*CONFINED, *YIELDING, *_identity(facts, tool), *_limits(room)),
        *_network(room, server),
        *_environment(gpu, image, tool, room),
        *(() if gpu is None else _device(facts, gpu, tool)),
        *(_mount(folder, folder, writable=True) for folder in server.mounts),
        *server.arguments,
        *(f"--entrypoint={program}", image.image, *more),
    )


def chosen_tool(facts: HostFacts, server: ServerSpec) -> ContainerTool:
    """What starts containers there: what fleet.yaml says, else the first that is installed.

    Raises:
        DeviceUnavailable: It is not installed.
    """
    for tool in facts.tools:
        if server.container in (None, tool.name):
            return tool
    raise DeviceUnavailable(
        f"{facts.hostname}: no {server.container or 'podman or docker'} was found there",
        hint="one of them must be installed, and usable by who connects",
    )


def container_name(run: str, worker: str) -> str:
    """The container's name on its server: one for each worker of each run."""
    return "embedmill-" + re.sub(r"[^A-Za-z0-9_.-]", "-", f"{run}-{worker}")


def removal_command(tool: ContainerTool, name: str) -> tuple[str, ...]:
    """Ends a container whose `run` was killed: that alone leaves it running."""
    return (tool.name, "rm", "--force", name)


def _pull(image: ImageSpec) -> str:
    """A digest names one image for ever, so what is missing may be fetched; an id names none to fetch."""
    return "never" if image.image.startswith("sha256:") else "missing"


def _identity(facts: HostFacts, tool: ContainerTool) -> Iterator[str]:
    """Whoever connects, so that files in mounted folders are theirs; root in neither place."""
    mapped = tool.name == "podman" and tool.rootless
    if mapped:
        yield "--userns=keep-id"
    if facts.uid and (mapped or not tool.rootless):
        yield f"--user={facts.uid}:{facts.gid or facts.uid}"
    elif not mapped:
        yield f"--user={NOBODY}:{NOBODY}"


def _limits(room: Room) -> Iterator[str]:
    yield f"--memory={room.memory_mib}m"
    yield f"--pids-limit={room.processes}"
    if room.scratch is None:
        yield f"--tmpfs={TEMPORARY}:rw,nosuid,nodev,noexec,size={room.scratch_mib}m,mode=1777"
    else:
        yield _mount(room.scratch, TEMPORARY, writable=True)


def _network(room: Room, server: ServerSpec) -> Iterator[str]:
    """The tool's own private network, unless fleet.yaml says which."""
    if room.offline and not any(each.split("=")[0] in NETWORKS for each in server.arguments):
        yield "--network=none"


def _environment(
    borrowed: Borrowed | None, image: ImageSpec, tool: ContainerTool, room: Room
) -> Iterator[str]:
    values = {
        "HOME": TEMPORARY,
        "EMBEDMILL_CACHE": f"{TEMPORARY}/embedmill",
        "OMP_NUM_THREADS": str(room.threads),
        "TOKENIZERS_PARALLELISM": "false",
    }
    if borrowed is not None:
        values["CUDA_VISIBLE_DEVICES"] = borrowed.uuid
        folders = [_compat(image)] if borrowed.rule == "forward" else []
        folders += [] if tool.nvidia else [LIBRARIES]
        if folders:
            values["LD_LIBRARY_PATH"] = ":".join(folders)
        if tool.nvidia:
            values["NVIDIA_DRIVER_CAPABILITIES"] = "compute,utility"
    for name, value in values.items():
        yield f"--env={name}={value}"


def _compat(image: ImageSpec) -> str:
    if image.compat is None:
        raise SpecError(f"{image.image}: has no compat package, so an older driver cannot run it")
    return image.compat.folder


def _device(facts: HostFacts, borrowed: Borrowed, tool: ContainerTool) -> Iterator[str]:
    """One GPU: by the toolkit, or by its nodes and the driver's libraries."""
    if tool.nvidia:
        yield (
            f"--device=nvidia.com/gpu={borrowed.uuid}"
            if tool.name == "podman"
            else f"--gpus=device={borrowed.uuid}"
        )
        return
    for node in nodes_for(facts, borrowed.gpu, borrowed.mig):
        yield f"--device={node}:{node}:rw"
    for source, target in mounts_of(facts):
        yield _mount(source, target, writable=False)


def _mount(source: str, target: str, *, writable: bool) -> str:
    """`--mount` and not `--volume`, which makes a folder of what is not there."""
    if "," in source:
        raise SpecError(f"{source!r}: a path with a comma cannot be mounted")
    return f"--mount=type=bind,source={source},target={target}" + ("" if writable else ",readonly")
