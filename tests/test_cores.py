"""Processes and threads are started for the cores that may be used, and for no more than are worth it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from embedmill.cores import cores

ALLOWED = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(("quota", "paid"), [("100000 100000", 1), ("50000 100000", 1), ("300000 200000", 1)])
def test_a_containers_quota_counts_in_whole_cores_and_one_is_always_there(
    tmp_path: Path, quota: str, paid: int
) -> None:
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert cores(cpu_max=tmp_path / "cpu.max") == paid


@pytest.mark.parametrize("quota", ["max 100000", "", "100000000000 100000", None])
def test_without_a_lower_quota_it_is_the_cores_that_are_allowed(tmp_path: Path, quota: str | None) -> None:
    if quota is not None:
        (tmp_path / "cpu.max").write_text(quota)
    assert cores(1 << 20, tmp_path / "cpu.max") == ALLOWED


def test_no_more_than_the_most_are_used(tmp_path: Path) -> None:
    assert cores(1, tmp_path / "absent") == 1
