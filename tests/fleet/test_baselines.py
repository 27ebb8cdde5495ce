"""Learnt baselines: the least memory that a GPU had in use while nobody had it, in a small file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.fleet.facts import MIB, gpu, host, process

from embedmill.fleet.baselines import baselines_file, learnt, read_baselines, write_baselines


def test_the_least_that_was_seen_counts() -> None:
    known: dict[str, int] = {}
    for used, expected in ((450, 450), (460, 450), (430, 430)):
        known = learnt(known, [host(gpu(used_bytes=used * MIB))])
        assert known == {"GPU-1": expected}


@pytest.mark.parametrize(
    ("changed", "facts"),
    [
        ({"processes": (process(),)}, {}),
        ({"processes": (process(name="Xorg"),)}, {}),
        ({"processes": None}, {}),
        ({"utilisation": ()}, {}),
        ({"utilisation": (0,) * 59 + (1,)}, {}),
        ({"lease": "run 1"}, {}),
        ({"allocations": ("slurm job 1",)}, {}),
        ({"mig": True}, {}),
        ({"used_bytes": 1025 * MIB}, {}),
        ({}, {"namespaced": True}),
        ({}, {"source": "nvidia-smi"}),
    ],
)
def test_nothing_is_learnt_where_somebody_may_have_the_gpu(
    changed: dict[str, Any], facts: dict[str, Any]
) -> None:
    assert learnt({}, [host(gpu(**{"used_bytes": 5 * MIB, **changed}), **facts)]) == {}


def test_every_gpu_of_every_server_teaches_for_itself() -> None:
    first = host(gpu(uuid="GPU-a", used_bytes=10 * MIB), gpu(uuid="GPU-b", used_bytes=20 * MIB))
    second = host(gpu(uuid="GPU-c", used_bytes=30 * MIB))
    assert learnt({"GPU-z": 7}, [first, second]) == {"GPU-z": 7, "GPU-a": 10, "GPU-b": 20, "GPU-c": 30}


def test_what_was_learnt_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "cache" / "gpu-baselines.json"
    assert read_baselines(file) == ({}, "")
    assert write_baselines(file, {"GPU-a": 10}) == ""
    assert write_baselines(file, {"GPU-a": 9, "GPU-b": 1}) == ""
    assert read_baselines(file) == ({"GPU-a": 9, "GPU-b": 1}, "")
    assert [each.name for each in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b'{"schema": "gpu-baselines/2", "mib": {}}',
        b'{"schema": "gpu-baselines/1", "mib": {"a": -1}}',
    ],
)
def test_a_damaged_file_is_told_and_learning_starts_anew(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "gpu-baselines.json"
    file.write_bytes(data)
    known, said = read_baselines(file)
    assert known == {}
    assert said.startswith(str(file))
    assert said.endswith("baselines are learnt anew")
    assert write_baselines(file, learnt(known, [host(gpu(used_bytes=5 * MIB))])) == ""
    assert read_baselines(file) == ({"GPU-1": 5}, "")


def test_a_folder_that_cannot_be_written_is_only_told(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    said = write_baselines(tmp_path / "cache" / "gpu-baselines.json", {"GPU-a": 1})
    assert "baselines cannot be kept" in said
    known, why = read_baselines(tmp_path / "cache" / "gpu-baselines.json")
    assert known == {}
    assert why.endswith("baselines are learnt anew")


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    file = tmp_path / "gpu-baselines.json"
    file.mkdir()
    assert "baselines cannot be kept" in write_baselines(file, {"GPU-a": 1})
    assert list(tmp_path.iterdir()) == [file]


def test_they_are_kept_in_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDMILL_CACHE", str(tmp_path))
    assert baselines_file() == tmp_path / "gpu-baselines.json"
