"""What a driver that fails, hangs or loses a GPU leaves of the facts: never a figure that was not learned."""

from __future__ import annotations

import json
import os
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.support.fake_gpus import (
    DRIVER_NOT_LOADED,
    GPU_IS_LOST,
    NOT_SUPPORTED,
    UNKNOWN,
    FakeGpu,
    FakeProcess,
    Scenario,
    build_library,
)

from embedmill.devices.procfs import described
from embedmill.devices.reach import run_there
from embedmill.spec.host import HostFacts

FIRST = FakeGpu("GPU-1", "NVIDIA A100-SXM4-40GB", 40960, 500, reserved_mib=600, mig=0, cc="8.0")
SECOND = FakeGpu("GPU-2", "NVIDIA A100-SXM4-40GB", 40960, 3, mig=0, cc="8.0", minor=7)
MIB = 1 << 20
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env", "PATH=/usr/bin:/bin")


@pytest.fixture
def scenario(tmp_path: Path, library: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that the library reads; nothing is in it yet."""
    file = tmp_path / "scenario"
    for name, value in Scenario().environment(library, file).items():
        monkeypatch.setenv(name, value)
    return file


def look(file: Path, scenario: Scenario, window_s: float = 0, deadline_s: float = 60) -> HostFacts:
    scenario.write(file)
    asked: Mapping[str, object] = {"window_s": window_s, "every_s": 0.1, "deadline_s": deadline_s}
    answer = run_there((), "host", data=json.dumps(asked).encode(), timeout_s=240)
    assert answer.code == 0, answer.words
    return HostFacts.from_bytes(answer.out, "this machine")


def test_memory_in_use_is_without_what_the_driver_keeps_for_itself(scenario: Path) -> None:
    assert look(scenario, Scenario([FIRST])).gpus[0].used_bytes == 500 * MIB


def test_an_older_driver_does_not_tell_that_apart(scenario: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    older = build_library(without=["nvmlDeviceGetMemoryInfo_v2"])
    monkeypatch.setenv("LD_LIBRARY_PATH", str(older.parent))
    assert look(scenario, Scenario([FIRST])).gpus[0].used_bytes == 1100 * MIB


def test_a_gpu_is_named_by_its_minor_number_and_not_by_its_index(scenario: Path) -> None:
    assert [gpu.minor for gpu in look(scenario, Scenario([FIRST, SECOND])).gpus] == [0, 7]


@pytest.mark.parametrize("function", ["nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetUUID"])
def test_a_lost_gpu_is_a_problem_and_the_others_are_told(scenario: Path, function: str) -> None:
    facts = look(scenario, Scenario([FIRST, SECOND], fail={f"{function} gpu=1": GPU_IS_LOST}))
    assert [gpu.uuid for gpu in facts.gpus] == ["GPU-1"]
    [problem] = [each for each in facts.problems if each.startswith("GPU 1: ")]
    assert "GPU is lost (15); it has fallen off the bus" in problem


def test_a_gpu_whose_memory_is_not_told_is_not_told_to_be_empty(scenario: Path) -> None:
    fail = {"nvmlDeviceGetMemoryInfo": UNKNOWN, "nvmlDeviceGetMemoryInfo_v2": UNKNOWN}
    facts = look(scenario, Scenario([FIRST], fail=fail))
    assert facts.gpus == ()
    assert any("nvmlDeviceGetMemoryInfo: Unknown Error (999)" in each for each in facts.problems)


def test_what_a_gpu_does_not_support_is_unknown_and_no_problem(scenario: Path) -> None:
    plain = FakeGpu(
        "GPU-3", "NVIDIA GeForce RTX 3090", 24576, utilisation=None, ecc=None, remap_pending=None, mode=None
    )
    facts = look(scenario, Scenario([plain], fail={"nvmlDeviceGetPersistenceMode": NOT_SUPPORTED}))
    gpu = facts.gpus[0]
    assert (gpu.utilisation, gpu.compute_mode, gpu.persistence) == ((), None, None)
    assert (gpu.health.ecc_uncorrected, gpu.health.remap_pending) == (None, None)
    assert not [each for each in facts.problems if each.startswith(("GPU", "driver"))]


def test_a_table_of_processes_that_cannot_be_read_is_none(scenario: Path) -> None:
    fail = {"nvmlDeviceGetComputeRunningProcesses_v3": UNKNOWN}
    facts = look(scenario, Scenario([FIRST], fail=fail), window_s=0.3)
    assert facts.gpus[0].processes is None
    assert len([each for each in facts.problems if "RunningProcesses_v3" in each]) == 1, "told once"


def test_a_driver_that_is_not_loaded_says_so(scenario: Path) -> None:
    facts = look(scenario, Scenario([FIRST], fail={"nvmlInit_v2": DRIVER_NOT_LOADED}))
    assert (facts.source, facts.gpus) == ("none", ())
    assert "modprobe nvidia" in next(each for each in facts.problems if each.startswith("driver: "))


def test_a_driver_that_hangs_in_the_middle_leaves_what_it_told_before(scenario: Path) -> None:
    hang = {"nvmlDeviceGetComputeRunningProcesses_v3 gpu=1": 600}
    busy = FakeProcess(0, os.getpid(), 900)
    facts = look(scenario, Scenario([FIRST, SECOND], [busy], hang=hang), deadline_s=10)
    assert [gpu.uuid for gpu in facts.gpus] == ["GPU-1", "GPU-2"]
    assert [gpu.processes for gpu in facts.gpus] == [None, None]
    assert any("hangs in nvmlDeviceGetComputeRunningProcesses_v3" in each for each in facts.problems)


def test_a_process_that_came_and_went_within_the_window_is_told(scenario: Path) -> None:
    over = threading.Event()

    def come_and_go() -> None:
        """Again and again, since nobody knows when the window begins."""
        while not over.wait(0.3):
            Scenario([SECOND], [FakeProcess(0, os.getpid(), 900)]).write(scenario)
            over.wait(0.3)
            Scenario([SECOND]).write(scenario)

    other = threading.Thread(target=come_and_go)
    other.start()
    facts = look(scenario, Scenario([SECOND]), window_s=2)
    over.set()
    other.join()
    [process] = facts.gpus[0].processes or ()
    assert (process.pid, process.used_bytes) == (os.getpid(), 900 * MIB)
    assert facts.window_s > 1.9
    assert 1 < len(facts.gpus[0].utilisation) <= 21


def test_more_processes_than_the_first_table_has_room_for_are_all_told(scenario: Path) -> None:
    many = [FakeProcess(0, 1000 + number, 1) for number in range(200)]
    graphics = [FakeProcess(0, 500, 1, "graphics")]
    facts = look(scenario, Scenario([FIRST], [*many, *graphics]))
    kinds = [each.kind for each in facts.gpus[0].processes or ()]
    assert (kinds.count("compute"), kinds.count("graphics")) == (200, 1)


def test_who_may_not_look_at_others_processes_says_so_and_tells_their_names(
    library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        scenario = Scenario([FIRST], [FakeProcess(0, os.getpid(), 900)])
        for name, value in scenario.environment(library, Path(folder) / "scenario").items():
            monkeypatch.setenv(name, value)
        answer = run_there((*NOBODY, "sh", "-c"), "host", data=b'{"deadline_s": 60}')
    facts = HostFacts.from_bytes(answer.out, "this machine")
    gpu = facts.gpus[0]
    assert (facts.uid, gpu.holders, gpu.health.xids) == (65534, None, None)
    assert any(each.startswith("processes: ") for each in facts.problems)
    [process] = gpu.processes or ()
    assert (process.user, process.name) == ("root", described(os.getpid())["name"])


def test_persistence_and_health_are_told_as_they_are(scenario: Path) -> None:
    ill = FakeGpu(
        "GPU-4", "NVIDIA H100 80GB HBM3", 81559, ecc=3, remap_pending=1, remap_failed=1, persistence=0
    )
    gpu = look(scenario, Scenario([ill])).gpus[0]
    assert gpu.persistence is False
    assert (gpu.health.ecc_uncorrected, gpu.health.remap_pending, gpu.health.remap_failed) == (3, True, True)
