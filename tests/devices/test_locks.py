"""A GPU's lock is held by one, is free when its holder ends, and cannot be turned against anybody."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.patience import until

from embedmill.devices.locks import LocksUnusable, holder_of, try_lock

HOLD = """
import sys, time
from embedmill.devices.locks import try_lock
held = try_lock(sys.argv[1], "GPU-1", "another: process")
print("held" if held else "taken", flush=True)
time.sleep(60)
"""
HAMMER = """
import random, sys, time
from embedmill.devices.locks import try_lock
folder, log, name = sys.argv[1:]
wins = 0
while wins < 25:
    lock = try_lock(folder, "GPU-1", name)
    if lock is None:
        continue
    with open(log, "a") as file:
        file.write(f"enter {name}\\n")
    time.sleep(random.random() / 500)
    with open(log, "a") as file:
        file.write(f"leave {name}\\n")
    lock.release()
    wins += 1
"""

LOOK = """
import select, sys
from embedmill.devices.locks import holder_of
print("looking", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    holder_of(sys.argv[1], "GPU-1")
"""


def test_a_lock_is_held_by_one_at_a_time_and_says_by_whom(tmp_path: Path) -> None:
    folder = str(tmp_path / "fleet")
    assert holder_of(folder, "GPU-1") is None
    held = try_lock(folder, "GPU-1", "ann: worker w1")
    assert held is not None
    assert try_lock(folder, "GPU-1", "bob: worker w2") is None
    assert holder_of(folder, "GPU-1") == "ann: worker w1"
    assert try_lock(folder, "GPU-2", "bob: worker w2") is not None
    held.release()
    assert holder_of(folder, "GPU-1") is None
    assert try_lock(folder, "GPU-1", "bob: worker w2") is not None


def test_a_killed_holder_leaves_the_lock_free_at_once(tmp_path: Path) -> None:
    folder = str(tmp_path / "fleet")
    other = subprocess.Popen([sys.executable, "-c", HOLD, folder], stdout=subprocess.PIPE)
    assert other.stdout is not None
    assert other.stdout.readline() == b"held\n"
    assert try_lock(folder, "GPU-1", "we") is None
    other.kill()
    other.wait()
    other.stdout.close()
    assert holder_of(folder, "GPU-1") is None
    assert try_lock(folder, "GPU-1", "we") is not None


@pytest.mark.soak(quick=1, large=10)
def test_processes_that_hammer_a_lock_never_hold_it_together(tmp_path: Path, seed: int) -> None:
    log = tmp_path / "log"
    arguments = [sys.executable, "-c", HAMMER, str(tmp_path / "fleet"), str(log)]
    processes = [subprocess.Popen([*arguments, f"p{number}"]) for number in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    lines = log.read_text().split("\n")[:-1]
    assert len(lines) == 200
    for enter, leave in zip(lines[::2], lines[1::2], strict=True):
        assert (enter.split()[0], leave) == ("enter", f"leave {enter.split()[1]}")


def test_who_only_looks_is_in_nobodys_way(tmp_path: Path) -> None:
    """A look holds a shared lock for a moment; whoever takes the lock tries again."""
    folder = str(tmp_path / "fleet")
    with subprocess.Popen(
        [sys.executable, "-c", LOOK, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as looking:
        assert looking.stdout is not None
        assert looking.stdout.readline() == b"looking\n"
        for _ in range(500):
            taken = try_lock(folder, "GPU-1", "we")
            assert taken is not None
            taken.release()
        assert looking.poll() is None
        looking.communicate()
    assert looking.returncode == 0


def test_what_is_written_in_the_file_of_a_lock_decides_nothing(tmp_path: Path) -> None:
    folder = str(tmp_path / "fleet")
    held = try_lock(folder, "GPU-1", "ann: worker w1")
    assert held is not None
    file = tmp_path / "fleet/locks/GPU-1"
    file.write_text("nobody\x1b[2J at all\n" + "x" * 10_000)
    said = holder_of(folder, "GPU-1")
    assert said is not None
    assert said.startswith("nobody[2J at all")
    assert len(said) < 500
    held.release()
    file.write_text("ann: worker w1")
    assert holder_of(folder, "GPU-1") is None
    assert try_lock(folder, "GPU-1", "bob") is not None


def test_everybody_may_use_the_folder_whatever_the_umask_is(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        held = try_lock(str(tmp_path / "deep/fleet"), "GPU-1", "we")
    finally:
        os.umask(before)
    assert held is not None
    modes = {
        path: stat.S_IMODE((tmp_path / "deep" / path).stat().st_mode)
        for path in ("fleet", "fleet/locks", "fleet/locks/GPU-1")
    }
    assert modes == {"fleet": 0o1777, "fleet/locks": 0o1777, "fleet/locks/GPU-1": 0o666}


@pytest.mark.parametrize("uuid", ["", "../GPU-1", "GPU-1/..", "GPU-", "GPU-1\n", ".", "gpu-1", "GPU-1 2"])
def test_what_is_no_uuid_of_a_gpu_never_becomes_a_path(tmp_path: Path, uuid: str) -> None:
    with pytest.raises(LocksUnusable, match="no UUID"):
        try_lock(str(tmp_path / "fleet"), uuid, "we")
    assert not (tmp_path / "fleet/locks/GPU-1").exists()


@pytest.mark.parametrize("kind", ["symlink", "dangling", "hardlink", "fifo", "folder"])
def test_nothing_is_written_through_what_somebody_put_in_the_place_of_a_lock(
    tmp_path: Path, kind: str
) -> None:
    locks = tmp_path / "fleet/locks"
    locks.mkdir(parents=True)
    treasure = tmp_path / "treasure"
    treasure.write_text("do not touch")
    place = locks / "GPU-1"
    match kind:
        case "symlink":
            place.symlink_to(treasure)
        case "dangling":
            place.symlink_to(tmp_path / "not-there")
        case "hardlink":
            place.hardlink_to(treasure)
        case "fifo":
            os.mkfifo(place)
        case "folder":
            place.mkdir()
    with pytest.raises(LocksUnusable):
        try_lock(str(tmp_path / "fleet"), "GPU-1", "we")
    assert treasure.read_text() == "do not touch"
    assert not (tmp_path / "not-there").exists()


@pytest.mark.parametrize("place", ["fleet", "fleet/locks"])
def test_folders_that_are_links_are_not_followed(tmp_path: Path, place: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LocksUnusable, match=r"symbolic link|not a directory"):
        try_lock(str(tmp_path / "fleet"), "GPU-1", "we")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_lock_whose_file_was_replaced_is_taken_on_the_file_that_others_find(tmp_path: Path) -> None:
    folder = str(tmp_path / "fleet")
    assert try_lock(folder, "GPU-1", "we") is not None
    file = tmp_path / "fleet/locks/GPU-1"
    file.rename(tmp_path / "fleet/locks/GPU-old")
    held = try_lock(folder, "GPU-1", "we again")
    assert held is not None
    until(file.is_file, "a new file")
    assert holder_of(folder, "GPU-1") == "we again"
