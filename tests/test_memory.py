"""Memory that may still be taken: what the machine has available, or less in a container."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedmill.memory import memory_left


def told(folder: Path, limit: str) -> tuple[Path, Path]:
    """A machine of 8 MiB that are available, and a container that uses 3 MiB, one of them for files."""
    meminfo = folder / "meminfo"
    meminfo.write_text("MemTotal:       16384 kB\nMemAvailable:    8192 kB\nHugePages_Total:       0\n")
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{3 * 2**20}\n")
    (folder / "memory.stat").write_text(f"anon 17\ninactive_file {2**20}\n")
    return meminfo, folder


@pytest.mark.parametrize(
    ("limit", "left_mib"), [("max", 8), (str(5 * 2**20), 3), (str(99 * 2**20), 8), ("0", 0)]
)
def test_the_least_of_machine_and_container_counts(tmp_path: Path, limit: str, left_mib: int) -> None:
    assert memory_left(*told(tmp_path, limit)) == left_mib * 2**20


def test_where_nobody_says_there_is_very_much(tmp_path: Path) -> None:
    assert memory_left(tmp_path / "none", tmp_path / "none") > 2**60
