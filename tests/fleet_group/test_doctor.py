"""`fleet doctor`: what is missing on a server, and the command that mends it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.fake_gpus import MISMATCH, FakeGpu, Scenario
from tests.support.gpu_servers import NODES, GpuServers, Setup

from embedmill.fleet.doctoring import examine
from embedmill.spec.reports import DoctorReport, Finding

T4 = FakeGpu("GPU-t4", "Tesla T4", 15360)
COLD = FakeGpu("GPU-cold", "Tesla T4", 15360, persistence=0)
NO_DAEMON = "echo 'permission denied while trying to connect to the Docker daemon socket' >&2; exit 1"


@pytest.fixture
def servers(tmp_path: Path, namespaces: None, library: Path) -> Iterator[GpuServers]:
    with GpuServers(tmp_path) as made:
        yield made


def found(report: DoctorReport, check: str) -> list[Finding]:
    return [each for each in report.findings if each.check == check]


def test_a_server_without_a_node_of_unified_memory_is_told_how_to_get_it(servers: GpuServers) -> None:
    nodes = [name for name in NODES if name != "nvidia-uvm"]
    servers.start("gpu", Setup(Scenario([COLD]), nodes=nodes, programs={"docker": NO_DAEMON}))
    report = examine(servers.fleet(timeout_s=120), "gpu")
    assert not report.ok
    [uvm] = [each for each in found(report, "driver files") if "/dev/nvidia-uvm is absent" in each.found]
    assert (uvm.state, uvm.hint) == ("fail", "as root, nvidia-modprobe -u -c 0 makes it")
    [persistence] = found(report, "persistence")
    assert persistence.state == "warn"
    assert "nvidia-smi -pm 1" in persistence.hint
    [docker] = [each for each in found(report, "containers") if "docker" in each.found]
    assert docker.hint == "as root: usermod -aG docker root"
    assert [each.state for each in found(report, "clock")] == ["ok"]


def test_locks_that_cannot_be_taken_are_told(servers: GpuServers, tmp_path: Path) -> None:
    (tmp_path / "locks").write_text("in the way")
    servers.start("gpu", Setup(Scenario([T4])))
    [locks] = found(examine(servers.fleet(timeout_s=120), "gpu"), "locks")
    assert locks.state == "fail"
    assert locks.found.endswith("locks: is no folder")
    assert locks.hint.startswith("as root: install -d -m 1777")


def test_a_driver_that_was_updated_while_it_was_loaded_is_told(servers: GpuServers) -> None:
    servers.start("gpu", Setup(Scenario([T4], fail={"nvmlInit_v2": MISMATCH})))
    report = examine(servers.fleet(timeout_s=120), "gpu")
    driver = found(report, "driver")[0]
    assert (driver.state, driver.found) == ("fail", "nvmlInit_v2: Driver/library version mismatch (18)")
    assert "restart" in driver.hint


def test_a_server_without_python_is_told_to_get_it(servers: GpuServers) -> None:
    log = "<nvidia_smi_log><driver_version>470.42.01</driver_version></nvidia_smi_log>"
    servers.start("gpu", Setup(python=False, driver=False, programs={"nvidia-smi": f"echo '{log}'"}))
    [python] = found(examine(servers.fleet(timeout_s=120), "gpu"), "python3")
    assert (python.state, python.hint) == ("fail", "as root: apt-get install python3")


def test_a_server_without_python_and_nvidia_smi_lacks_python_and_no_connection(servers: GpuServers) -> None:
    servers.start("gpu", Setup(python=False, driver=False))
    report = examine(servers.fleet(timeout_s=120), "gpu")
    assert [(each.check, each.state) for each in report.findings] == [("reach", "ok"), ("python3", "fail")]
    assert report.findings[1].hint == "as root: apt-get install python3"


def test_a_podman_that_tells_of_no_store_is_looked_past(servers: GpuServers) -> None:
    podman = 'case $1 in --version) echo "podman version 4.3.1";; esac'
    servers.start("gpu", Setup(Scenario([T4]), programs={"podman": podman}))
    report = examine(servers.fleet(timeout_s=120), "gpu")
    [space] = found(report, "space")
    assert space.found.startswith("/var/lib/"), report.findings


def test_a_server_that_is_off_has_one_finding(servers: GpuServers) -> None:
    servers.add_absent("gpu")
    report = examine(servers.fleet(timeout_s=9), "gpu")
    assert [(each.check, each.state) for each in report.findings] == [("reach", "fail")]
