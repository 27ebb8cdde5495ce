"""Real S3 servers, SeaweedFS (with a second endpoint) and moto: started once a session, if asked for.

Every test has a prefix of its own in one bucket. Credentials come through the environment alone, as they do
for users: `as_identity` sets them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tools.seaweedfs import HOST, Identity, Server, ask, free_ports, running, seaweedfs, second_gateway

BUCKET = "embedmill-tests"
READER = Identity("reader", ("Read", "List"))
ANYBODY = Identity("anybody")
"""Keys that only moto takes, which takes all."""


@dataclass(frozen=True)
class S3:
    """A server's endpoint, and who may do everything there."""

    endpoint: str
    admin: Identity

    def new_url(self) -> str:
        """A store that nobody else uses."""
        return f"s3://{BUCKET}/{uuid.uuid4().hex}"


def as_identity(patch: pytest.MonkeyPatch, identity: Identity, endpoint: str) -> None:
    """Make this process, and those that it starts, an identity of that endpoint; and nobody else's."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        patch.delenv(name)
    patch.setenv("AWS_CONFIG_FILE", os.devnull)
    patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    for name, value in identity.environment(endpoint).items():
        patch.setenv(name, value)


@pytest.fixture(scope="session")
def seaweed_server() -> Iterator[Server]:
    """SeaweedFS, with `READER` beside its admin."""
    with (
        tempfile.TemporaryDirectory(prefix="weed-", ignore_cleanup_errors=True) as folder,
        seaweedfs(Path(folder), [READER], stop_s=0.5) as server,  # nobody wants its data afterwards
    ):
        server.make_bucket(BUCKET)
        yield server


@pytest.fixture(scope="session")
def seaweed(seaweed_server: Server) -> S3:
    """SeaweedFS's S3 endpoint."""
    return S3(seaweed_server.endpoint, seaweed_server.admin)


@pytest.fixture(scope="session")
def seaweed_second_endpoint(seaweed_server: Server) -> Iterator[str]:
    """A second S3 endpoint of the same server, ready."""
    with second_gateway(seaweed_server) as endpoint:
        ready = Server(seaweed_server.folder, _with_port(seaweed_server, endpoint), seaweed_server.admin)
        ready.make_bucket(BUCKET)
        yield endpoint


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """moto's S3 in a process of its own, which lets everybody do everything."""
    (port,) = free_ports(1)
    command = [str(Path(sys.executable).with_name("moto_server")), "-H", HOST, "-p", str(port)]
    with running(command, tmp_path_factory.mktemp("moto") / "server.log") as process:
        endpoint = f"http://{HOST}:{port}"
        _make_moto_bucket(endpoint, process)
        yield S3(endpoint, ANYBODY)


@pytest.fixture
def seaweed_store_url(seaweed: S3, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new store on SeaweedFS, and the environment that opens it."""
    as_identity(monkeypatch, seaweed.admin, seaweed.endpoint)
    return seaweed.new_url()


def _with_port(server: Server, endpoint: str) -> dict[str, int]:
    return {**server.ports, "s3": int(endpoint.rsplit(":", 1)[1])}


def _make_moto_bucket(endpoint: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            assert ask("PUT", int(endpoint.rsplit(":", 1)[1]), f"/{BUCKET}") == 200
            return
        except OSError:
            assert process.poll() is None, "moto_server ended"
            assert time.monotonic() < deadline, "moto_server does not answer"
        time.sleep(0.1)
