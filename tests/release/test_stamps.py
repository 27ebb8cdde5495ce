"""Frozen shards that were hashed just now are not hashed again, as long as they look as they did then."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.support.mill import Mill, items

from embedmill.errors import ReleaseCorrupt, RunClosed
from embedmill.planned import PlannedRun
from embedmill.release.stamps import STAMPED_BYTES, TRUSTED_S, frozen_file, note_frozen
from embedmill.spec.documents import FileEntry
from embedmill.store import cache_folder
from embedmill.work import WorkerOptions, work


@pytest.fixture
def run(mill: Mill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlannedRun:
    monkeypatch.setenv("EMBEDMILL_CACHE", str(tmp_path / "cache"))
    mill.settings = {"work": {"shard_rows": 10}}
    return mill.planned(large(20))


def large(count: int, *, start: int = 0) -> list[dict[str, Any]]:
    """Rows of which ten make a shard that is worth a stamp."""
    title = "a" * (STAMPED_BYTES // 9)
    return [{**row, "title": f"{row['title']} {title}"} for row in items(count, start=start)]


def shard(run: PlannedRun) -> tuple[FileEntry, Path]:
    entry = run.plan.shards[0].file
    return entry, run.home.store.path(run.home.key(entry.path))  # type: ignore[attr-defined]


def damage(file: Path, *, unseen: bool) -> None:
    """Change a byte; `unseen`: size, inode and time stay."""
    before = file.stat()
    file.chmod(0o644)
    with file.open("r+b") as stream:
        stream.seek(before.st_size // 2)
        byte = stream.read(1)[0]
        stream.seek(before.st_size // 2)
        stream.write(bytes([byte ^ 1]))
    if unseen:
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_what_looks_as_it_did_when_it_was_planned_is_not_hashed(run: PlannedRun) -> None:
    entry, file = shard(run)
    damage(file, unseen=True)
    assert frozen_file(run.home, entry) == file


def test_whatever_touches_a_shard_has_it_hashed(run: PlannedRun) -> None:
    entry, file = shard(run)
    damage(file, unseen=False)
    with pytest.raises(ReleaseCorrupt, match=r"not those that were written"):
        frozen_file(run.home, entry)
    with pytest.raises(RunClosed, match=file.name):
        work(run.home, run.plan.run, WorkerOptions("w"))


def test_another_file_in_its_place_is_hashed(run: PlannedRun) -> None:
    entry, file = shard(run)
    beside = file.with_suffix(".copy")
    shutil.copy2(file, beside)
    damage(beside, unseen=True)
    beside.rename(file)
    with pytest.raises(ReleaseCorrupt):
        frozen_file(run.home, entry)


@pytest.mark.parametrize("after_s", [-2 * TRUSTED_S, 2 * TRUSTED_S])
def test_a_stamp_counts_for_a_while_and_by_no_clock_that_went_back(run: PlannedRun, after_s: float) -> None:
    entry, file = shard(run)
    stamped_ns = file.stat().st_mtime_ns + int(after_s * 1e9)
    os.utime(file, ns=(stamped_ns, stamped_ns))
    note_frozen(run.home, [(entry, file)])
    damage(file, unseen=True)
    with pytest.raises(ReleaseCorrupt):
        frozen_file(run.home, entry)


@pytest.mark.parametrize("said", [None, b"", b"[]", b'{"x": 1}', b"\xff"])
def test_without_a_stamp_that_can_be_read_a_shard_is_hashed(run: PlannedRun, said: bytes | None) -> None:
    entry, file = shard(run)
    damage(file, unseen=True)
    for stamp in (cache_folder() / "stamps").iterdir():
        if said is None:
            stamp.unlink()
        else:
            stamp.write_bytes(said)
    with pytest.raises(ReleaseCorrupt):
        frozen_file(run.home, entry)


def test_a_copy_of_what_was_hashed_gets_no_stamp(run: PlannedRun, tmp_path: Path) -> None:
    entry, file = shard(run)
    hashed = tmp_path / "hashed.arrow"
    shutil.copy2(file, hashed)
    note_frozen(run.home, [(entry, hashed)])
    damage(file, unseen=True)
    with pytest.raises(ReleaseCorrupt):
        frozen_file(run.home, entry)


def test_the_next_plan_takes_the_place_of_a_stamp(mill: Mill, run: PlannedRun) -> None:
    entry, file = shard(run)
    mill.planned(large(30, start=100))
    assert len(list((cache_folder() / "stamps").iterdir())) == 1
    damage(file, unseen=True)
    with pytest.raises(ReleaseCorrupt):
        frozen_file(run.home, entry)


def test_a_small_shard_is_hashed_and_has_no_stamp(mill: Mill, run: PlannedRun) -> None:
    small = mill.planned(items(20, start=100))
    entry, file = shard(small)
    (stamp,) = (cache_folder() / "stamps").iterdir()
    assert json.loads(stamp.read_bytes()) == {}
    damage(file, unseen=True)
    with pytest.raises(ReleaseCorrupt):
        frozen_file(small.home, entry)


def test_a_stamp_is_read_once_while_it_is_the_same_file(run: PlannedRun) -> None:
    entry, file = shard(run)
    damage(file, unseen=True)
    assert frozen_file(run.home, entry) == file
    (stamp,) = (cache_folder() / "stamps").iterdir()
    before = stamp.stat()
    stamp.write_bytes(b" " * before.st_size)
    os.utime(stamp, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert frozen_file(run.home, entry) == file, "by what was read before"
    os.utime(stamp, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    with pytest.raises(ReleaseCorrupt):
        frozen_file(run.home, entry)
