"""A server with two GPUs as files below a folder: nodes that are no GPUs, a fake NVML, no NVIDIA runtime."""

from __future__ import annotations

import json
import os
import shlex
import stat
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.deploy_group.containers import Containers
from tests.support.driver import DRIVER, a_host, linker_cache
from tests.support.fake_gpus import FakeGpu, Scenario

from embedmill.devices.driver_files import driver_files
from embedmill.fleet.cdi import cdi_spec
from embedmill.fleet.container import Borrowed, Room, container_command
from embedmill.spec.fleet import ServerSpec
from embedmill.spec.host import ContainerTool, DriverFiles, GpuFacts, HostFacts
from embedmill.spec.images import ImageSpec

USER = 10001
LIBRARIES = "/usr/lib/somewhere"
NULL = (1, 3)
"""What the nodes are in truth: /dev/null."""
HERE = ("--ulimit", "nofile=1024:20000", "--ulimit", "nproc=4096:4096")
"""What runc needs where nobody has CAP_SYS_RESOURCE."""
GPUS = (FakeGpu("GPU-0", minor=0), FakeGpu("GPU-1", minor=1))


def podman_beside(containers: Containers) -> str:
    """A script that is `podman` on a server which is a network namespace.

    `ip netns exec` hides control groups: it runs among this machine's mounts, in the server's network.
    """
    beside = ("nsenter", f"--mount=/proc/{os.getpid()}/ns/mnt", "--", "/usr/bin/podman")
    return f'exec {shlex.join((*beside, *containers.podman_command()[1:]))} "$@"'


@dataclass(frozen=True)
class GpuHost:
    """The server, and containers on it whose words are those of `container_command`."""

    root: Path
    containers: Containers
    image: str
    mounts: tuple[str, ...] = ()
    room: Room = field(default=Room(memory_mib=1024, scratch_mib=64, processes=128, offline=True))

    @property
    def facts(self) -> HostFacts:
        return HostFacts(
            hostname="gpu-01",
            taken="2026-01-31T23:59:59Z",
            window_s=0.0,
            source="nvml",
            driver=DRIVER,
            uid=USER,
            gid=USER,
            gpus=tuple(
                GpuFacts(
                    index=gpu.minor or 0,
                    uuid=gpu.uuid,
                    name=gpu.name,
                    memory_bytes=0,
                    used_bytes=0,
                    minor=gpu.minor,
                )
                for gpu in GPUS
            ),
            tools=(ContainerTool(name="podman", version="4.3.1", rootless=False),),
            driver_files=DriverFiles.model_validate(driver_files(DRIVER, str(self.root))),
        )

    @property
    def scenario(self) -> tuple[str, ...]:
        """What the stand-in for NVML reads."""
        return (f"--volume={self.root}/scenario:/scenario:ro", "--env=FAKE_NVML_SCENARIO=/scenario")

    def cdi_json(self) -> str:
        """The specification of the server's GPUs; its own files lie below a folder."""
        spec = cdi_spec(self.facts)
        for edits in [spec["containerEdits"], *(device["containerEdits"] for device in spec["devices"])]:
            for mount in edits.get("mounts", ()):
                mount["hostPath"] = f"{self.root}{mount['hostPath']}"
            for node in edits.get("deviceNodes", ()):
                node["hostPath"] = f"{self.root}{node['path']}"
        return json.dumps(spec)

    def command(self, *program: str, worker: str = "one", room: Room | None = None) -> list[str]:
        """How a worker is started on GPU 1; another program than `embedmill` may take its place."""
        server = ServerSpec(mounts=self.mounts, arguments=(*self.scenario, *HERE))
        image = ImageSpec(image=self.image, runtimes={"onnx": "1.0"}, command=program or ("embedmill",))
        gpu = Borrowed(self.facts.gpus[1])
        words = container_command(
            self.facts, gpu, image, server, worker=worker, run="test", room=room or self.room
        )
        return self.containers.podman_command(*(self._seen_from_here(word) for word in words[1:]))

    def python(self, program: str, room: Room | None = None) -> subprocess.CompletedProcess[str]:
        """Run a program of Python in a container."""
        command = self.command("python3", "-c", program, room=room)
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    def _seen_from_here(self, word: str) -> str:
        """The server's own files lie below a folder."""
        for option in (
            "--device=/dev/",
            f"--mount=type=bind,source={LIBRARIES}",
            "--mount=type=bind,source=/usr/bin",
        ):
            if word.startswith(option):
                place = option.index("/")
                return f"{option[:place]}{self.root}{word[place:]}"
        return word


def make_host(root: Path, library: Path) -> Path:
    """Skips where no nodes can be made."""
    a_host(root)
    libraries = root / LIBRARIES.lstrip("/")
    (libraries / f"libnvidia-ml.so.{DRIVER}").write_bytes(library.read_bytes())
    cache = {name: f"{LIBRARIES}/{name}" for name in ("libcuda.so.1", "libnvidia-ml.so.1")}
    (root / "etc" / "ld.so.cache").write_bytes(linker_cache(cache))
    for node in (root / "dev").iterdir():
        node.unlink()
        try:
            os.mknod(node, stat.S_IFCHR | 0o666, os.makedev(*NULL))
        except PermissionError:
            pytest.skip("no device nodes can be made here")
        node.chmod(0o666)
    Scenario(GPUS, nodes="/dev").write(root / "scenario")
    return root
