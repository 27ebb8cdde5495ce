"""One ssh connection a server: opened by the first question, used by the others, ended with the engine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from tests.support.fake_gpus import FakeGpu, Scenario
from tests.support.gpu_servers import GpuServers, Setup

from embedmill.devices.reach import SSH_FAILED, run_command
from embedmill.engines.multiplexing import Connections
from embedmill.fleet.reaching import host_of
from embedmill.types import Host


@pytest.fixture
def servers(
    tmp_path_factory: pytest.TempPathFactory, namespaces: None, library: Path
) -> Iterator[GpuServers]:
    with GpuServers(tmp_path_factory.mktemp("servers")) as made:
        made.start("gpu-01", Setup(Scenario([FakeGpu("GPU-1")])))
        yield made


@pytest.fixture
def host(servers: GpuServers) -> Host:
    return host_of("gpu-01", servers.fleet().servers["gpu-01"])


def test_all_questions_share_one_connection_that_ends_with_the_engine(
    servers: GpuServers, host: Host
) -> None:
    before = accepted(servers)
    connections = Connections()
    reach = connections.reach(host)
    for _ in range(5):
        assert run_command(reach, ("echo", "here"), b"", 120.0).out == b"here\n"
    assert accepted(servers) == before + 1
    masters = processes_with(control_path(reach))
    assert masters
    connections.close()
    psutil.wait_procs(masters, timeout=120)
    assert not processes_with(control_path(reach))
    assert not Path(control_path(reach)).parent.exists()


def test_a_question_after_the_connection_broke_opens_another(servers: GpuServers, host: Host) -> None:
    connections = Connections()
    reach = connections.reach(host)
    run_command(reach, ("true",), b"", 120.0)
    for master in processes_with(control_path(reach)):
        master.kill()
    psutil.wait_procs(processes_with(control_path(reach)), timeout=120)
    assert run_command(reach, ("echo", "here"), b"", 120.0).out == b"here\n"
    connections.close()


def test_a_server_that_froze_is_late_and_not_for_ever(servers: GpuServers, host: Host) -> None:
    connections = Connections()
    reach = connections.reach(host)
    run_command(reach, ("true",), b"", 120.0)
    for process in psutil.Process(servers.servers["gpu-01"].process.pid).children(recursive=True):
        process.suspend()
    servers.servers["gpu-01"].freeze()
    assert run_command(reach, ("true",), b"", 3.0).code in {None, SSH_FAILED}
    connections.close()


def test_sharing_that_people_configured_is_left_to_them(host: Host, tmp_path: Path) -> None:
    options = ("-o", "ControlMaster=auto", "-o", f"ControlPath={tmp_path}/%C")
    own = replace(host, reach=(host.reach[0], *options, *host.reach[1:]))
    connections = Connections()
    assert connections.reach(own) == own.reach
    connections.close()


def accepted(servers: GpuServers) -> int:
    """Connections that the server's sshd let in."""
    log = servers.ssh_config.parent / "gpu-01" / "log"
    return log.read_text(errors="replace").count("Accepted publickey")


def control_path(reach: tuple[str, ...]) -> str:
    (path,) = (word.removeprefix("ControlPath=") for word in reach if word.startswith("ControlPath="))
    return path


def processes_with(path: str) -> list[psutil.Process]:
    """Masters of the folder: their title names the socket."""
    folder = str(Path(path).parent)
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(folder in word for word in process.info["cmdline"] or []):
            found.append(process)
    return found
