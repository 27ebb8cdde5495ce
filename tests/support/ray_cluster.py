"""A Ray cluster on this machine: each node in a network namespace, with its own address, on a bridge.

    with RayCluster(folder) as cluster:
        node = cluster.join(NodeSetup(cpus=1, labels={"pool": "night"}))
        with cluster.inside():
            …  # this thread, and what it starts, is on the head

The head has no processors for actors. Files and processes are this machine's. Only root can make one.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests.support.patience import PATIENCE_S

PORT, METRICS_PORT = 6379, 8090
STORE_BYTES = 80_000_000
TRIES = 5
TOO_SLOW = "timed out during startup"
KEEPALIVES = {
    "RAY_grpc_client_keepalive_time_ms": "5000",
    "RAY_grpc_client_keepalive_timeout_ms": "5000",
    "RAY_grpc_keepalive_time_ms": "5000",
    "RAY_grpc_keepalive_timeout_ms": "5000",
}
HEALTH_CHECKS = {
    "RAY_health_check_initial_delay_ms": "2000",
    "RAY_health_check_period_ms": "2000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "6",
}


@dataclass(frozen=True)
class NodeSetup:
    """What a node has. `cores`: of this machine, that all its processes share; None: all of them."""

    cpus: int = 1
    labels: Mapping[str, str] = field(default_factory=dict)
    resources: Mapping[str, float] = field(default_factory=dict)
    cores: Sequence[int] | None = None
    nice: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RayNode:
    """A node that runs."""

    namespace: str
    address: str
    link: str
    process: subprocess.Popen[bytes]
    log: Path

    def pids(self) -> list[int]:
        """All processes of this node."""
        found = subprocess.run(["ip", "netns", "pids", self.namespace], capture_output=True, check=False)
        return [int(pid) for pid in found.stdout.split()]

    def await_start(self) -> bool:
        """Until it says that it runs; False where it was too slow for Ray, which gives it 30 s."""
        deadline_s = time.monotonic() + PATIENCE_S
        while "Ray runtime started" not in self.log.read_text(errors="replace"):
            if self.process.poll() is not None and TOO_SLOW in self.log.read_text(errors="replace"):
                return False
            assert self.process.poll() is None, self.log.read_text(errors="replace")
            assert time.monotonic() < deadline_s, self.log.read_text(errors="replace")
            time.sleep(0.1)
        return True

    def kill(self) -> None:
        """As when its power fails."""
        for _ in range(5):
            for pid in self.pids():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.process.wait()


class RayCluster:
    """A head and nodes; leaving the context ends them by their pids."""

    def __init__(self, folder: Path, *, dashboard: bool = False) -> None:
        self._folder = folder
        self._dashboard = dashboard
        number = os.getpid() % 250 + 1
        self.bridge = f"ray{number}"
        self._subnet = f"10.79.{number}"
        self._places = iter(range(10, 250))
        self._temporary = Path(f"/tmp/ray-{number}")
        self.token_file = folder / "token"
        self.nodes: list[RayNode] = []
        self._outside = -1

    def __enter__(self) -> Self:
        self.token_file.write_text(secrets.token_hex(32))
        self.token_file.chmod(0o600)
        _ip("link", "add", self.bridge, "type", "bridge")
        _ip("addr", "add", f"{self._subnet}.1/24", "dev", self.bridge)
        _ip("link", "set", self.bridge, "up")
        try:
            options = ["--head", f"--port={PORT}", f"--temp-dir={self._temporary}"]
            options += [f"--include-dashboard={str(self._dashboard).lower()}"]
            self.head = self._start(NodeSetup(cpus=0, environment=HEALTH_CHECKS), options)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for node in reversed(self.nodes):
            self.remove(node)
        _ip("link", "del", self.bridge)
        subprocess.run(["rm", "-rf", str(self._temporary)], check=False)

    @property
    def gateway(self) -> str:
        """An address of this machine that all nodes reach."""
        return f"{self._subnet}.1"

    @property
    def address(self) -> str:
        """Of the head."""
        return f"{self.head.address}:{PORT}"

    @property
    def client_address(self) -> str:
        """For who is no node."""
        return f"ray://{self.head.address}:10001"

    def join(self, setup: NodeSetup) -> RayNode:
        """A node more."""
        with self.outside():
            return self._start(setup, [f"--address={self.address}"])

    def remove(self, node: RayNode) -> None:
        """Kill it. The link goes before its namespace, which would else keep the link's name for a while."""
        node.kill()
        with self.outside():
            _ip("link", "del", node.link)
            _ip("netns", "del", node.namespace)
        self.nodes.remove(node)

    def cut(self, node: RayNode) -> None:
        """Silently: packets go nowhere, and nobody is told."""
        with self.outside():
            _ip("link", "set", node.link, "nomaster")

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """This thread, and all that it starts, is on the head."""
        with _namespace("/proc/thread-self/ns/net") as self._outside:
            self._enter_head()
            try:
                yield
            finally:
                _enter(self._outside)
                self._outside = -1

    @contextlib.contextmanager
    def outside(self) -> Iterator[None]:
        """On a machine that reaches the head, and is no node; also within `inside`."""
        if self._outside < 0:
            yield
            return
        _enter(self._outside)
        try:
            yield
        finally:
            self._enter_head()

    def logs(self) -> list[Path]:
        """All that Ray has logged, on whichever node."""
        return [file for file in self._temporary.rglob("logs/*") if file.is_file()]

    def metrics(self) -> str:
        """What all nodes export."""
        found = []
        for node in self.nodes:
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"http://{node.address}:{METRICS_PORT}/metrics", timeout=60) as page,
            ):
                found.append(page.read().decode())
        return "\n".join(found)

    def _enter_head(self) -> None:
        with _namespace(f"/run/netns/{self.head.namespace}") as head:
            _enter(head)

    def command(self, *arguments: str) -> list[str]:
        """A command line that runs on the head."""
        return ["ip", "netns", "exec", self.head.namespace, *arguments]

    def environment(self) -> dict[str, str]:
        """For Ray's own programs."""
        own = {name: text for name, text in os.environ.items() if not name.startswith("RAY_")}
        path = f"{Path(sys.executable).parent}:{own.get('PATH', '')}:/usr/sbin:/sbin"
        auth = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token_file)}
        own |= {"PATH": path, "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
        return {**own, **auth, **KEEPALIVES}

    def _start(self, setup: NodeSetup, options: Sequence[str]) -> RayNode:
        place = next(self._places)
        namespace, address = f"{self.bridge}-{place}", f"{self._subnet}.{place}"
        outside, inside = f"{self.bridge}o{place}", f"{self.bridge}i{place}"
        _ip("netns", "add", namespace)
        _ip("link", "add", outside, "type", "veth", "peer", "name", inside)
        _ip("link", "set", outside, "master", self.bridge, "up")
        _ip("link", "set", inside, "netns", namespace)
        _ip("-n", namespace, "addr", "add", f"{address}/24", "dev", inside)
        _ip("-n", namespace, "link", "set", inside, "up")
        _ip("-n", namespace, "link", "set", "lo", "up")
        command = [str(Path(sys.executable).parent / "ray"), "start", "--block", *options]
        command += [f"--node-ip-address={address}", f"--num-cpus={setup.cpus}", "--disable-usage-stats"]
        command += [f"--object-store-memory={STORE_BYTES}", f"--metrics-export-port={METRICS_PORT}"]
        if setup.labels:
            command += ["--labels=" + ",".join(f"{name}={text}" for name, text in setup.labels.items())]
        if setup.resources:
            command += ["--resources=" + str(dict(setup.resources)).replace("'", '"')]
        if setup.cores is not None:
            command = ["taskset", "--cpu-list", ",".join(map(str, setup.cores)), *command]
        if setup.nice:
            command = ["nice", "-n", str(setup.nice), *command]
        log = self._folder / f"{namespace}.log"
        for _ in range(TRIES):
            process = subprocess.Popen(
                ["ip", "netns", "exec", namespace, *command],
                env={**self.environment(), **setup.environment},
                stdin=subprocess.DEVNULL,
                stdout=log.open("wb"),
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            node = RayNode(namespace, address, outside, process, log)
            self.nodes.append(node)
            if node.await_start():
                return node
            node.kill()
            self.nodes.remove(node)
        raise AssertionError(log.read_text(errors="replace"))


@contextlib.contextmanager
def _namespace(path: str) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _enter(namespace: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, 0) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
