"""Scratch folders vanish with their owner, however it ends, and never before."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from tests.support.nfs import like_nfs

from embedmill.errors import StoreFull
from embedmill.store.scratch import scratch_folder

HOLD_ONE = """
from embedmill.store.scratch import scratch_folder
with scratch_folder() as folder:
    (folder / "spill").write_text("rows")
    print(folder, flush=True)
    input()
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)  # it remembers the first answer
    return tmp_path


def holder() -> tuple[subprocess.Popen[str], Path]:
    """A process that holds a scratch folder until it is ended, and that folder."""
    command = [sys.executable, "-c", HOLD_ONE]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    return process, Path(process.stdout.readline().strip())


def test_a_folder_vanishes_at_the_end_and_after_an_error(temporary: Path) -> None:
    with scratch_folder() as folder:
        (folder / "file").write_text("x")
    with pytest.raises(ValueError, match="mine"), scratch_folder():
        raise ValueError("mine")
    assert not list(temporary.iterdir())


def test_what_a_killed_process_left_is_cleared_by_the_next_one(temporary: Path) -> None:
    process, left = holder()
    process.kill()
    process.communicate()
    assert (left / "spill").exists()
    with scratch_folder() as folder:
        assert list(temporary.iterdir()) == [folder]


def test_nothing_stays_where_open_files_that_are_removed_do(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    like_nfs(monkeypatch)
    process, left = holder()
    process.kill()
    process.communicate()
    (left / "more").mkdir()
    (left / "more" / "spill").write_text("rows")
    with scratch_folder() as folder:
        assert list(temporary.iterdir()) == [folder]


def test_the_folder_of_a_living_process_is_left_alone(temporary: Path) -> None:
    process, theirs = holder()
    with scratch_folder(), scratch_folder():
        assert (theirs / "spill").exists()
    process.communicate("\n")
    assert not theirs.exists()


def test_folders_that_are_not_ours_are_left_alone(temporary: Path) -> None:
    (temporary / "embedmill-notes").mkdir()
    with scratch_folder():
        pass
    assert (temporary / "embedmill-notes").is_dir()


def test_a_full_disk_is_an_error_of_ours() -> None:
    with pytest.raises(StoreFull, match="no space left"), scratch_folder():
        raise OSError(28, "No space left on device")
