"""GPU servers on this machine: each in a network namespace, with its own address, sshd and fake NVML.

    with GpuServers(folder) as servers:
        server = servers.start("t4", Setup(Scenario([FakeGpu("GPU-1")])))
        spec = servers.fleet(timeout_s=10)

A server has its own /dev, host name and PATH; its file system and its processes are this machine's. Only root
can make one.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.support.fake_gpus import Scenario, build_library

from embedmill.spec.fleet import FleetSpec

NODES = ("nvidia0", "nvidiactl", "nvidia-uvm", "nvidia-uvm-tools")
KEPT_NODES = ("null", "zero", "full", "random", "urandom", "tty", "ptmx", "kmsg", "fuse")
SSHD_CONFIG = """\
Port 22
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/key.pub
PidFile none
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
MaxStartups 100
SetEnv {environment}
"""
SSH_CONFIG = """\
Host *
    User root
    IdentityFile {folder}/key
    IdentitiesOnly yes
    UserKnownHostsFile {folder}/known_hosts
    GlobalKnownHostsFile /dev/null
"""
PREPARE = """\
hostname {name}
mount -t tmpfs -o mode=755 tmpfs {home}/dev
for node in {kept}; do [ ! -e /dev/$node ] || cp -a /dev/$node {home}/dev/$node; done
for node in {nodes}; do mknod -m 666 {home}/dev/$node c 1 3; done
mkdir {home}/dev/pts {home}/dev/shm && mount --rbind /dev/pts {home}/dev/pts
for link in fd stdin stdout stderr; do cp -a /dev/$link {home}/dev/$link; done
mount --move {home}/dev /dev
for file in .bashrc .profile; do [ ! -e $HOME/$file ] || mount --bind /dev/null $HOME/$file; done
ip link set lo up
exec /usr/sbin/sshd -D -e -f {home}/sshd_config
"""


@dataclass(frozen=True)
class Setup:
    """What a server is like. `without`: functions that its driver lacks; `programs`: scripts on its PATH.

    `driver`: whether it has NVML; `python`: whether it has python3; `container`: whether pids are
    those of a container.
    """

    scenario: Scenario = field(default_factory=Scenario)
    without: Sequence[str] = ()
    programs: Mapping[str, str] = field(default_factory=dict)
    driver: bool = True
    python: bool = True
    container: bool = False
    nodes: Sequence[str] = NODES


@dataclass(frozen=True)
class GpuServer:
    """A server that runs; rewriting its scenario changes what it tells."""

    name: str
    address: str
    namespace: str
    process: subprocess.Popen[bytes]
    scenario: Path

    def freeze(self) -> None:
        """It accepts connections, and says nothing any more."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def run(self, *command: str, **keywords: Any) -> subprocess.Popen[bytes]:
        """Start a program that sees this server's files, its device nodes among them."""
        entered = ["nsenter", "--target", str(self.process.pid), "--mount", "--uts", "--net"]
        return subprocess.Popen([*entered, *command], **keywords)


class GpuServers:
    """Servers on a bridge; leaving the context ends them by their pids."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = 0
        self._addresses = iter(range(10, 250))
        self.servers: dict[str, GpuServer] = {}
        self._specs: dict[str, dict[str, Any]] = {}
        self._beside: list[str] = []

    @property
    def _bridge(self) -> str:
        return f"emb{self._number}"

    def __enter__(self) -> Self:
        self._number = _new_bridge()
        for name in ("host_key", "key"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self._folder / name)]
            subprocess.run(command, check=True)
        key = " ".join((self._folder / "host_key.pub").read_text().split()[:2])
        (self._folder / "known_hosts").write_text(f"10.78.{self._number}.* {key}\n")
        self.ssh_config.write_text(SSH_CONFIG.format(folder=self._folder))
        Path("/run/sshd").mkdir(exist_ok=True)  # where sshd confines itself; a service would make it
        _ip("addr", "add", f"10.78.{self._number}.1/24", "dev", self._bridge)
        _ip("link", "set", self._bridge, "up")
        return self

    def __exit__(self, *_: object) -> None:
        for server in self.servers.values():
            self._end(server)
        for namespace in self._beside:
            self._remove(namespace)
        _ip("link", "del", self._bridge)

    @property
    def ssh_config(self) -> Path:
        """Reaches them all."""
        return self._folder / "ssh_config"

    def start(self, name: str, setup: Setup) -> GpuServer:
        """A server that answers."""
        home = self._folder / name
        for folder in ("bin", "dev"):
            (home / folder).mkdir(parents=True)
        for program, script in setup.programs.items():
            (home / "bin" / program).write_text(f"#!/bin/sh\n{script}\n")
            (home / "bin" / program).chmod(0o755)
        scenario = setup.scenario.write(home / "scenario")
        config = SSHD_CONFIG.format(folder=self._folder, environment=_environment(home, setup))
        (home / "sshd_config").write_text(config)
        place = next(self._addresses)
        namespace, address = f"{self._bridge}-{place}", f"10.78.{self._number}.{place}"
        self._connect(namespace, place, address)
        process = _start(namespace, home, name, setup)
        server = GpuServer(name, address, namespace, process, scenario)
        self.servers[name] = server
        self._specs[name] = self._reached(address)
        self._await(server)
        return server

    def attach(self) -> tuple[str, str]:
        """A namespace beside the servers, and its address: of somebody whom they can reach."""
        place = next(self._addresses)
        namespace, address = f"{self._bridge}-{place}", f"10.78.{self._number}.{place}"
        self._connect(namespace, place, address)
        _ip("-n", namespace, "link", "set", "lo", "up")
        self._beside.append(namespace)
        return namespace, address

    def add_absent(self, name: str) -> None:
        """A server of the fleet that is switched off."""
        self._specs[name] = self._reached(f"10.78.{self._number}.{next(self._addresses)}")

    def fleet(self, **values: Any) -> FleetSpec:
        """A fleet of them all."""
        return FleetSpec.model_validate({"servers": self._specs, **values})

    def _reached(self, address: str) -> dict[str, Any]:
        return {
            "address": address,
            "options": ["-F", str(self.ssh_config)],
            "folder": str(self._folder / "locks"),
        }

    def _connect(self, namespace: str, place: int, address: str) -> None:
        outside, inside = f"{self._bridge}o{place}", f"{self._bridge}i{place}"
        _ip("netns", "add", namespace)
        _ip("link", "add", outside, "type", "veth", "peer", "name", inside)
        _ip("link", "set", outside, "master", self._bridge, "up")
        _ip("link", "set", inside, "netns", namespace)
        _ip("-n", namespace, "addr", "add", f"{address}/24", "dev", inside)
        _ip("-n", namespace, "link", "set", inside, "up")

    def _await(self, server: GpuServer) -> None:
        """Until its sshd lets us in."""
        command = ["ssh", "-F", str(self.ssh_config), "-o", "BatchMode=yes", server.address, "true"]
        for _ in range(100):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                return
            assert server.process.poll() is None, (server.process.args, done.stderr)
            time.sleep(0.1)
        raise AssertionError(done.stderr)

    def _end(self, server: GpuServer) -> None:
        """The link before its namespace, which would else leave the link's name taken for a while."""
        server.process.send_signal(signal.SIGCONT)
        _kill_all(server.namespace)
        server.process.kill()
        server.process.wait(120)
        self._remove(server.namespace)

    def _remove(self, namespace: str) -> None:
        _kill_all(namespace)
        _ip("link", "del", f"{self._bridge}o{namespace.rpartition('-')[2]}")
        _ip("netns", "del", namespace)


def _environment(home: Path, setup: Setup) -> str:
    """What sshd gives to all that it starts."""
    path = [str(home / "bin")]
    if setup.python:
        path += [str(Path(sys.executable).parent), "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
    else:
        for name in ("sh", "readlink", "true", "cat"):
            (home / "bin" / name).symlink_to(f"/bin/{name}")
    values = {"PATH": ":".join(path), "FAKE_NVML_SCENARIO": str(home / "scenario")}
    if setup.driver:
        values["LD_LIBRARY_PATH"] = str(build_library(without=setup.without).parent)
    return " ".join(f"{name}={value}" for name, value in values.items())


def _start(namespace: str, home: Path, name: str, setup: Setup) -> subprocess.Popen[bytes]:
    script = PREPARE.format(
        name=name, home=home, kept=" ".join(KEPT_NODES), nodes=" ".join(map(shlex.quote, setup.nodes))
    )
    alone = ["unshare", "--uts"]
    if setup.container:
        alone += ["--pid", "--fork", "--kill-child", "--mount-proc"]
    command = ["ip", "netns", "exec", namespace, *alone, "sh", "-e", "-c", script]
    return subprocess.Popen(command, stderr=(home / "log").open("wb"))


def _new_bridge() -> int:
    """Make one with a number that no other tests, which may run beside these, have."""
    for number in range(1, 251):
        command = ["ip", "link", "add", f"emb{number}", "type", "bridge"]
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return number
    raise AssertionError("no bridge can be made: 250 are there, or this is not root")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def _kill_all(namespace: str) -> None:
    pids = subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True, check=False)
    for pid in map(int, pids.stdout.split()):
        _kill(pid)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
