"""Users who share a server share its locks, and can neither rob each other nor lock each other out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.holding import Server, is_gone, server_in
from tests.support.patience import until

from embedmill.devices.bundle import bundle
from embedmill.devices.locks import holder_of

SOMEBODY, ELSE = 54321, 54322
AS_USER = """
import os, sys
import __future__, collections.abc, contextlib, ctypes, errno, fcntl, importlib.abc, importlib.util, json
import pwd, re, signal, stat, subprocess, threading, time, typing  # which others may not be allowed to read
uid = int(sys.argv.pop(1))
os.setgroups([]); os.setgid(uid); os.setuid(uid); os.umask(0o077)
exec(sys.argv.pop(1))
"""
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="not root: nobody else's processes can be made")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """In a folder that others can reach, as /var/tmp is."""
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    (tmp_path / "var").mkdir()
    (tmp_path / "var").chmod(0o1777)
    with server_in(tmp_path / "var/fleet") as found:
        yield found


def program_of(uid: int, code: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-I", "-c", AS_USER, str(uid), code], input=data, capture_output=True, check=False
    )


def start_as(uid: int, server: Server, worker: str, gpu: str) -> dict[str, object]:
    request = {"worker": worker, "folder": str(server.folder), "gpus": [gpu], "command": ["sleep", "60"]}
    done = program_of(uid, bundle("holder", "start"), json.dumps(request).encode())
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def stop_as(uid: int, server: Server, worker: str) -> dict[str, object]:
    request = {"folder": str(server.folder), "workers": [worker], "grace_s": 1}
    done = program_of(uid, bundle("holder", "stop"), json.dumps(request).encode())
    found: dict[str, object] = json.loads(done.stdout)["workers"][0]
    return found


@pytest.mark.parametrize("first", [SOMEBODY, 0])
def test_a_gpu_that_one_user_has_is_taken_for_all_others(server: Server, first: int) -> None:
    second = ELSE if first else SOMEBODY
    assert start_as(first, server, "w", "GPU-1")["state"] == "started"
    refused = start_as(second, server, "w", "GPU-1")
    assert refused["state"] == "taken"
    assert "worker w" in str(refused["by"])
    assert start_as(second, server, "w", "GPU-2")["state"] == "started", "names are each user's own"
    assert stop_as(first, server, "w")["running"] is False
    assert start_as(ELSE, server, "other", "GPU-1")["state"] == "started", "the file of another user's lock"
    stop_as(second, server, "w")
    stop_as(ELSE, server, "other")


def test_nobody_else_can_take_a_lock_away_end_its_worker_or_lie_about_it(server: Server) -> None:
    pid = start_as(SOMEBODY, server, "w", "GPU-1")["pid"]
    assert isinstance(pid, int)
    lock = server.folder / "locks/GPU-1"
    notes = server.folder / f"workers/{SOMEBODY}"
    for attack in (
        f"os.unlink({str(lock)!r})",
        f"os.rename({str(lock)!r}, {str(lock) + '2'!r})",
        f"os.rename({str(lock.parent)!r}, {str(lock.parent) + '2'!r})",
        f"os.rename({str(notes)!r}, {str(notes) + '2'!r})",
        f"open({str(notes / 'w.json')!r}, 'w')",
        f"os.listdir({str(notes)!r})",
        f"os.kill({pid}, 9)",
    ):
        assert b"PermissionError" in program_of(ELSE, f"import os; {attack}").stderr, attack
    stop_as(ELSE, server, "w")
    assert not is_gone(pid)
    assert program_of(ELSE, f"open({str(lock)!r}, 'w').write('free')").returncode == 0, "anybody may write"
    assert holder_of(str(server.folder), "GPU-1") == "free"
    assert start_as(ELSE, server, "w", "GPU-1")["state"] == "taken"
    stop_as(SOMEBODY, server, "w")
    until(lambda: is_gone(pid), "its end")


def test_a_folder_for_notes_that_somebody_else_made_is_not_used(server: Server) -> None:
    start_as(SOMEBODY, server, "w", "GPU-1")
    stop_as(SOMEBODY, server, "w")
    trap = server.folder / f"workers/{ELSE}"
    assert program_of(SOMEBODY, f"import os; os.mkdir({str(trap)!r}, 0o777)").returncode == 0
    failed = start_as(ELSE, server, "w", "GPU-1")
    assert failed["state"] == "failed"
    assert "is not this user's alone" in str(failed["reason"])
