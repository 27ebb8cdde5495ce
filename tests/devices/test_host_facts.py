"""What a host tells of itself, of its kernel's log, of schedulers and of locks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from embedmill.devices import allocations, commands, host, kernel_log, sampling
from embedmill.devices.locks import try_lock
from embedmill.devices.procfs import described, is_worker
from embedmill.devices.reach import run_there
from embedmill.spec.host import HostFacts

GPUS: list[dict[str, Any]] = [
    {"index": 0, "uuid": "GPU-a", "minor": 1},
    {"index": 1, "uuid": "GPU-b", "minor": 0},
]


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in front of all others on the PATH."""
    monkeypatch.setattr(commands, "PATH", f"{tmp_path}:{commands.PATH}")
    return tmp_path


def script(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def test_this_machine_tells_of_itself_whether_it_has_a_gpu_or_not() -> None:
    answer = run_there((), "host", data=b'{"deadline_s": 120}', timeout_s=240)
    facts = HostFacts.from_bytes(answer.out, "this machine")
    assert facts.hostname == os.uname().nodename
    assert facts.python == sys.version.split()[0]
    assert facts.cores
    assert bool(facts.gpus) == (facts.source != "none")


def test_a_process_is_told_by_the_whole_name_of_its_program(tmp_path: Path) -> None:
    program = tmp_path / "nvidia-cuda-mps-server"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "600"]) as process:
        deadline = time.monotonic() + 120  # a moment passes from its start to its name
        while described(process.pid)["name"] != program.name and time.monotonic() < deadline:
            time.sleep(0.01)
        found = described(process.pid)
        process.kill()
    assert found["name"] == "nvidia-cuda-mps-server"
    assert found["user"]


def test_a_process_that_is_not_there_has_no_name() -> None:
    assert described(2**22 + 1) == {"name": None, "user": None, "ours": False}


@pytest.mark.parametrize(
    ("arguments", "ours"),
    [
        (["/venv/bin/python", "-m", "embedmill", "worker", "--run", "x"], True),
        (["python", "/usr/local/bin/embedmill", "worker"], True),
        (["embedmill", "serve", "x"], False),
        (["worker", "embedmill"], False),
        (["python", "train.py"], False),
    ],
)
def test_workers_are_known_by_their_command(arguments: list[str], ours: bool) -> None:
    assert is_worker(arguments) == ours


def test_xids_are_told_by_the_place_of_the_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "kmsg"
    log.write_text(
        "6,1,0,-;NVRM: Xid (PCI:0000:3b:00): 79, pid=1234, GPU has fallen off the bus.\n"
        "6,2,0,-;NVRM: Xid (PCI:0000:AF:00.0): 13, Graphics Exception\n"
        "6,3,0,-;usb 1-1: new device\n"
        "6,4,0,-;NVRM: Xid (PCI:0000:3b:00): 154, GPU recovery action changed\n"
    )
    monkeypatch.setattr(kernel_log, "LOG", str(log))
    found = kernel_log.xids()
    assert found is not None
    assert found[kernel_log.place_of("00000000:3B:00.0")] == [79, 154]
    assert found[kernel_log.place_of("0000:af:00.0")] == [13]


def test_a_log_that_may_not_be_read_says_nothing(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_log, "LOG", str(programs / "absent"))
    script(programs, "journalctl", "exit 0")
    assert kernel_log.xids() is None


def test_the_journal_is_read_where_the_log_is_not(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_log, "LOG", str(programs / "absent"))
    script(programs, "journalctl", "echo 'NVRM: Xid (PCI:0000:3b:00): 48, DBE'")
    assert kernel_log.xids() == {kernel_log.place_of("0000:3b:00"): [48]}


@pytest.mark.parametrize(
    ("used", "given"),
    [
        ("gpu:tesla:1(IDX:0)", ["GPU-b"]),
        ("gpu:tesla:2(IDX:0-1)", ["GPU-a", "GPU-b"]),
        ("gpu:0(IDX:N/A)", []),
        ("gpu:1(IDX:N/A)", ["GPU-a", "GPU-b"]),
        ("gpu:1", ["GPU-a", "GPU-b"]),
        ("license:3", []),
    ],
)
def test_slurm_tells_gpus_by_their_device_nodes(programs: Path, used: str, given: list[str]) -> None:
    script(programs, "scontrol", f"echo 'NodeName=x Gres=gpu:2 GresUsed={used} NodeAddr=x'")
    script(programs, "squeue", "echo '42|alice|gres/gpu:1'")
    assert [gpu["uuid"] for gpu in GPUS if allocations.slurm().of(gpu)] == given
    assert {allocations.slurm().of(gpu) for gpu in GPUS} <= {"", "Slurm has given it away: job 42 of alice"}


def test_a_slurm_that_does_not_answer_may_have_given_all_away(programs: Path) -> None:
    script(programs, "scontrol", "echo 'Unable to contact slurm controller' >&2; exit 1")
    said = "Slurm (Unable to contact slurm controller) gives no answer, and may have given it away"
    assert [allocations.slurm().of(gpu) for gpu in GPUS] == [said, said]


def test_a_host_that_slurm_does_not_know_is_not_its_own(programs: Path) -> None:
    script(programs, "scontrol", "echo 'Node x not found'; exit 1")
    assert allocations.slurm() == allocations.Given()


@pytest.mark.parametrize("ids", [["GPU-a"], {"0": ["GPU-a"], "-1": []}])
def test_the_kubelet_tells_what_pods_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ids: Any) -> None:
    entries = [
        {"PodUID": "p-1", "ResourceName": "nvidia.com/gpu", "DeviceIDs": ids},
        {"PodUID": "p-2", "ResourceName": "example.com/nic", "DeviceIDs": ["GPU-b"]},
    ]
    file = tmp_path / "checkpoint"
    file.write_text(json.dumps({"Data": {"PodDeviceEntries": entries}, "Checksum": 1}))
    monkeypatch.setattr(allocations, "CHECKPOINT", str(file))
    said = "the kubelet has given it to pod p-1"
    assert [allocations.kubelet().of(gpu) for gpu in GPUS] == [said, ""]


def test_a_checkpoint_that_cannot_be_understood_may_have_given_all_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "checkpoint").write_text("[]")
    monkeypatch.setattr(allocations, "CHECKPOINT", str(tmp_path / "checkpoint"))
    assert all("cannot be understood" in allocations.kubelet().of(gpu) for gpu in GPUS)


def test_a_lock_that_is_held_is_told_with_the_words_in_it(tmp_path: Path) -> None:
    gpus = [unleased("GPU-a"), unleased("GPU-b")]
    lock = try_lock(str(tmp_path), "GPU-a", "run 7 of alice")
    assert lock is not None
    host._add_leases(gpus, str(tmp_path), [])
    assert [gpu["lease"] for gpu in gpus] == ["run 7 of alice", None]
    lock.release()
    host._add_leases(gpus, str(tmp_path), [])
    assert [gpu["lease"] for gpu in gpus] == [None, None]


def test_the_lock_of_a_slice_is_its_own(tmp_path: Path) -> None:
    gpu = unleased("GPU-a", "MIG-a", "MIG-b", "MIG-GPU-a/7/0")
    lock = try_lock(str(tmp_path), "MIG-b", "run 7 of alice")
    assert lock is not None
    problems: list[str] = []
    host._add_leases([gpu], str(tmp_path), problems)
    lock.release()
    assert gpu["lease"] is None
    assert [each.get("lease") for each in gpu["mig_devices"]] == [None, "run 7 of alice", None]
    assert not problems, "a slice without a UUID of its own can have no lock"


def unleased(uuid: str, *slices: str) -> dict[str, Any]:
    return {"index": 0, "uuid": uuid, "mig_devices": [{"uuid": each} for each in slices]}


def test_a_lock_that_may_not_be_looked_at_is_somebodys(tmp_path: Path) -> None:
    (tmp_path / "locks").write_text("no folder")
    gpus = [unleased("GPU-a")]
    problems: list[str] = []
    host._add_leases(gpus, str(tmp_path), problems)
    assert gpus[0]["lease"] == "somebody whose lock may not be looked at"
    assert len(problems) == 1


def test_a_program_that_hangs_is_left_behind(programs: Path) -> None:
    script(programs, "podman", "sleep 60")
    answer = commands.said("podman", "--version", timeout_s=0.2)
    assert (answer.code, answer.words) == (None, "podman gave no answer in 0 s")


def sample(used: int, utilisation: int | None, *pids: int) -> dict[str, Any]:
    processes = [{"pid": pid, "used_bytes": used, "name": "train"} for pid in pids]
    return {"used_bytes": used, "utilisation": utilisation, "processes": processes, "mig_devices": []}


def gathered(*messages: dict[str, Any]) -> sampling.Gathered:
    found = sampling.Gathered()
    gpu = {"index": 0, "used_bytes": 1, "most_used_bytes": 1, "utilisation": [], "processes": []}
    for message in ({"gpu": {**gpu, "mig_devices": []}}, *messages):
        found.take(json.loads(json.dumps(message)))
    return found


def test_the_worst_of_a_window_counts() -> None:
    samples = [sample(5, 0), sample(900, 99, 4242), sample(3, 0)]
    [gpu] = gathered(*({"sample": {"0": each}} for each in samples), {"finished": True}).told()
    assert (gpu["used_bytes"], gpu["most_used_bytes"], gpu["utilisation"]) == (3, 900, [0, 99, 0])
    assert [each["pid"] for each in gpu["processes"]] == [4242]


def test_an_empty_table_says_nothing_where_the_driver_hung_meanwhile() -> None:
    [gpu] = gathered({"sample": {"0": sample(5, 0)}}).told()
    assert gpu["processes"] is None
    [gpu] = gathered({"sample": {"0": sample(5, 0, 4242)}}).told()
    assert [each["pid"] for each in gpu["processes"]] == [4242]


def test_a_gpu_that_was_lost_meanwhile_is_not_told() -> None:
    assert gathered({"sample": {"0": sample(5, 0)}}, {"lost": 0}, {"finished": True}).told() == []
