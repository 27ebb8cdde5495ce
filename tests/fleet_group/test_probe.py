"""`fleet probe` on ten servers of which no two are alike: the right state of each, and none hides another."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cli.terminal import run_alone
from tests.support.fake_gpus import FakeGpu, FakeMig, FakeProcess, Scenario
from tests.support.gpu_servers import GpuServers, Setup

from embedmill.fleet.asking import probe_fleet
from embedmill.spec.fleet_reports import FleetProbe, ServerProbe

TIMEOUT_S = 30.0
HANGING = ("stuck", "frozen")
WINDOW_S = 1.0
IDLE = {"window_s": WINDOW_S, "every_s": 0.25}
T4 = FakeGpu("GPU-t4", "Tesla T4", 15360, used_mib=3, cc="7.5")
P100 = FakeGpu("GPU-p100", "Tesla P100-PCIE-16GB", 16384, 0, cc="6.0", remap_pending=None, remap_failed=None)
V100 = FakeGpu("GPU-v100", "Tesla V100-SXM2-32GB", 32768, 30100, utilisation=(97, 99), cc="7.0")
SLICES = (FakeMig("MIG-a", gi=7), FakeMig("MIG-b", gi=8, used_mib=4000))
A100 = FakeGpu("GPU-a100", "NVIDIA A100-SXM4-40GB", 40960, 4100, cc="8.0", mig=1, migs=SLICES)
H100 = FakeGpu("GPU-h100", "NVIDIA H100 80GB HBM3", 81559, 1, cc="9.0", mig=0)
BETWEEN_STEPS = FakeGpu("GPU-steps", "Tesla V100-SXM2-32GB", 32768, 30100, utilisation=(0,), cc="7.0")
HELD = FakeGpu("GPU-held", "NVIDIA A100-SXM4-40GB", 40960, 38092, utilisation=(0,), cc="8.0", mig=0)
ANCIENT = FakeGpu("GPU-k80", "Tesla K80", 11441, 0, cc="3.7", remap_pending=None, remap_failed=None)
SINCE_2020 = (
    "nvmlDeviceGetMemoryInfo_v2",
    "nvmlDeviceGetComputeRunningProcesses_v2",
    "nvmlDeviceGetComputeRunningProcesses_v3",
    "nvmlDeviceGetGraphicsRunningProcesses_v2",
    "nvmlDeviceGetGraphicsRunningProcesses_v3",
    "nvmlDeviceGetMigMode",
    "nvmlDeviceGetRemappedRows",
)


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The pid of a process whose name is `train`."""
    program = tmp_path_factory.mktemp("bin") / "train"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "600"]) as process:
        yield process.pid
        process.kill()


@pytest.fixture(scope="module")
def servers(
    tmp_path_factory: pytest.TempPathFactory, namespaces: None, library: Path, training: int
) -> Iterator[GpuServers]:
    with GpuServers(tmp_path_factory.mktemp("servers")) as made:
        made.start("t4", Setup(Scenario([T4])))
        made.start("p100", Setup(Scenario([P100])))
        made.start("training", Setup(Scenario([V100], [FakeProcess(0, training, 30000)])))
        made.start("sliced", Setup(Scenario([A100], [FakeProcess(0, training, 3900, mig=SLICES[1])])))
        made.start("h100", Setup(Scenario([H100], driver="570.124.06", cuda="12.8")))
        made.start("stuck", Setup(Scenario([T4], hang={"nvmlInit_v2": 600})))
        made.start("ancient", Setup(Scenario([ANCIENT], driver="390.116", cuda="9.1"), without=SINCE_2020))
        made.start("between", Setup(Scenario([BETWEEN_STEPS], [FakeProcess(0, training, 30000)])))
        made.start("held", Setup(Scenario([HELD]), container=True))
        made.start("frozen", Setup(Scenario([T4]))).freeze()
        made.add_absent("off")
        yield made


@pytest.fixture(scope="module")
def probe(servers: GpuServers) -> FleetProbe:
    return probe_fleet(servers.fleet(timeout_s=TIMEOUT_S, idle=IDLE))


def without_what_hangs(servers: GpuServers) -> dict[str, Any]:
    """The fleet.yaml of those of which an answer need not be waited for until it is late."""
    spec: dict[str, Any] = servers.fleet(timeout_s=TIMEOUT_S, idle=IDLE).model_dump(
        mode="json", exclude_defaults=True
    )
    spec["servers"] = {name: each for name, each in spec["servers"].items() if name not in HANGING}
    return spec


def found(probe: FleetProbe, name: str) -> ServerProbe:
    return next(each for each in probe.servers if each.server == name)


def verdicts(probe: FleetProbe, name: str) -> list[tuple[str, str]]:
    return [(gpu.state, gpu.reason) for gpu in found(probe, name).gpus]


def test_servers_are_told_in_the_order_of_fleet_yaml(probe: FleetProbe, servers: GpuServers) -> None:
    assert [each.server for each in probe.servers] == list(servers.fleet().servers)


@pytest.mark.parametrize(
    ("name", "kind", "capability", "driver"),
    [
        ("t4", "Tesla T4", (7, 5), "535.183.01"),
        ("p100", "Tesla P100-PCIE-16GB", (6, 0), "535.183.01"),
        ("h100", "NVIDIA H100 80GB HBM3", (9, 0), "570.124.06"),
    ],
)
def test_idle_gpus_are_told_with_their_type_and_driver(
    probe: FleetProbe, name: str, kind: str, capability: tuple[int, int], driver: str
) -> None:
    server = found(probe, name)
    assert server.state == "ok"
    assert server.facts is not None
    assert (server.facts.hostname, server.facts.driver) == (name, driver)
    assert (server.facts.gpus[0].name, server.facts.gpus[0].compute_capability) == (kind, capability)
    assert [gpu.state for gpu in server.gpus] == ["idle"]


def test_a_training_is_busy_and_told_by_its_pid_name_and_memory(probe: FleetProbe, training: int) -> None:
    [(state, reason)] = verdicts(probe, "training")
    assert state == "busy"
    assert f"pid {training} (train, root) holds 29.3 GiB" in reason


def test_a_training_between_two_steps_is_busy_though_nothing_computes(
    probe: FleetProbe, training: int
) -> None:
    [(state, reason)] = verdicts(probe, "between")
    assert state == "busy"
    assert f"pid {training}" in reason


def test_memory_that_nobody_seems_to_hold_is_never_idle(probe: FleetProbe) -> None:
    [(state, reason)] = verdicts(probe, "held")
    assert state == "unknown"
    assert "37.2 GiB are held and no process is visible" in reason
    facts = found(probe, "held").facts
    assert facts is not None
    assert facts.namespaced
    assert facts.gpus[0].processes == ()


def test_slices_are_told_apart(probe: FleetProbe) -> None:
    states = {gpu.uuid: gpu.state for gpu in found(probe, "sliced").gpus}
    assert states == {"GPU-a100": "unfit", "MIG-a": "idle", "MIG-b": "busy"}
    facts = found(probe, "sliced").facts
    assert facts is not None
    device = facts.gpus[0].mig_devices[1]
    assert (device.profile, device.gpu_instance, device.compute_instance) == ("1g.5gb", 8, 0)
    assert [each.name for each in device.processes] == ["train"]


def test_an_old_driver_tells_what_it_can(probe: FleetProbe) -> None:
    facts = found(probe, "ancient").facts
    assert facts is not None
    assert (facts.driver, facts.cuda) == ("390.116", (9, 1))
    gpu = facts.gpus[0]
    assert (gpu.processes, gpu.mig, gpu.health.remap_pending) == ((), False, None)
    assert verdicts(probe, "ancient")[0][0] == "idle"


def test_a_driver_that_hangs_is_told_with_the_function_and_leaves_nothing_behind(
    probe: FleetProbe, servers: GpuServers
) -> None:
    server = found(probe, "stuck")
    assert server.state == "failed"
    assert "hangs in nvmlInit_v2" in server.reason
    assert server.seconds < 2 * TIMEOUT_S
    listed = ["ip", "netns", "pids", servers.servers["stuck"].namespace]
    pids = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split()
    names = {Path(f"/proc/{pid}/comm").read_text().strip() for pid in pids}
    assert names == {"sshd"}


def test_a_server_that_says_nothing_is_late_and_one_that_is_off_is_unreachable(probe: FleetProbe) -> None:
    frozen, off = found(probe, "frozen"), found(probe, "off")
    assert (frozen.state, off.state) == ("timeout", "unreachable")
    assert "hangs, or is overloaded" in frozen.reason
    assert "is it on" in off.reason
    assert max(frozen.seconds, off.seconds) < 2 * TIMEOUT_S


def test_slow_servers_do_not_slow_the_others(probe: FleetProbe) -> None:
    answered = [each.seconds for each in probe.servers if each.state == "ok"]
    assert len(answered) == 8
    assert max(answered) < TIMEOUT_S
    assert probe.seconds < 2 * TIMEOUT_S, "the two that give no answer were waited for one after the other"


def test_a_gpu_that_becomes_busy_is_told_at_the_next_look(servers: GpuServers, training: int) -> None:
    spec = servers.fleet(timeout_s=TIMEOUT_S, idle=IDLE)
    before = probe_fleet(spec, ["p100"], window_s=0)
    Scenario([P100], [FakeProcess(0, training, 900)]).write(servers.servers["p100"].scenario)
    after = probe_fleet(spec, ["p100"], window_s=0)
    Scenario([P100]).write(servers.servers["p100"].scenario)
    assert [each.servers[0].gpus[0].state for each in (before, after)] == ["idle", "busy"]


def test_who_has_a_device_node_open_is_told(servers: GpuServers) -> None:
    holder = servers.servers["t4"].run("sh", "-c", "exec sleep 600 < /dev/nvidia0")
    try:
        deadline = time.monotonic() + 120
        while Path(f"/proc/{holder.pid}/comm").read_text() != "sleep\n" and time.monotonic() < deadline:
            time.sleep(0.05)
        answer = probe_fleet(servers.fleet(timeout_s=TIMEOUT_S), ["t4"], window_s=0)
    finally:
        holder.kill()
        holder.wait()
    facts = answer.servers[0].facts
    assert facts is not None
    assert facts.gpus[0].holders == (holder.pid,)


def test_the_command_tells_the_same_as_json_and_as_a_table(servers: GpuServers, tmp_path: Path) -> None:
    spec = without_what_hangs(servers)
    fleet = tmp_path / "fleet.yaml"
    fleet.write_text(json.dumps(spec))
    said = run_alone("fleet", "probe", "t4", "off", "--fleet", fleet, "--json", HOME=str(tmp_path))
    assert said.code == 0
    told = {each["server"]: each["state"] for each in said.json["servers"]}
    assert told == {"t4": "ok", "off": "unreachable"}
    table = run_alone("fleet", "probe", "t4", "off", "--fleet", fleet, HOME=str(tmp_path))
    assert "Tesla T4" in table.out
    assert "idle for 1 s" in table.out
    assert "unreachable" in table.out
    alone = run_alone("fleet", "probe", "off", "--fleet", fleet, HOME=str(tmp_path))
    assert alone.code == 1


IMAGES = f"""\
images:
  cu126:
    image: registry.internal/onnx@sha256:{"a" * 64}
    runtimes: {{onnx: 1.22.0}}
    cuda: "12.6"
    sass: ["7.0", "7.5", "8.0", "8.6", "8.9", "9.0"]
    ptx: ["9.0"]
  cu118:
    image: registry.internal/onnx@sha256:{"b" * 64}
    runtimes: {{onnx: 1.17.1}}
    cuda: "11.8"
    sass: ["6.0", "7.0", "7.5", "8.0"]
"""


def test_every_gpu_gets_the_right_image_or_a_refusal_with_its_numbers(
    servers: GpuServers, tmp_path: Path
) -> None:
    spec = without_what_hangs(servers)
    (tmp_path / "images.yaml").write_text(IMAGES)
    (tmp_path / "fleet.yaml").write_text(json.dumps({**spec, "images": "images.yaml"}))
    given = ("fleet", "match", "--fleet", tmp_path / "fleet.yaml")
    said = run_alone(*given, "--json", HOME=str(tmp_path))
    assert said.code == 3  # the K80 has none
    gpus = {gpu["uuid"]: gpu for gpu in said.json["gpus"]}
    rules = {
        uuid: (gpu["chosen"], each["rule"])
        for uuid, gpu in gpus.items()
        for each in gpu["verdicts"]
        if each["image"] == gpu["chosen"]
    }
    assert rules == {
        "GPU-t4": ("cu126", "minor"),
        "GPU-p100": ("cu118", "native"),
        "GPU-v100": ("cu126", "minor"),
        "MIG-a": ("cu126", "minor"),
        "MIG-b": ("cu126", "minor"),
        "GPU-h100": ("cu126", "native"),
        "GPU-steps": ("cu126", "minor"),
        "GPU-held": ("cu126", "minor"),
    }
    assert gpus["GPU-k80"]["chosen"] is None
    refusals = {each["image"]: each["reason"] for each in gpus["GPU-k80"]["verdicts"]}
    assert "390.116" in refusals["cu118"] or "3.7" in refusals["cu118"]
    assert set(said.json["unanswered"]) == {"off"}
    table = run_alone(*given, HOME=str(tmp_path))
    assert table.code == 3
    for word in ("cu118", "native", "minor", "Tesla K80", "off", "unreachable"):
        assert word in table.out + table.err, word
