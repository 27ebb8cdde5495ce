"""Who attends a worker starts it under a holder, stays with it, and ends as it does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.support.holding import Server, server_in
from tests.support.patience import until

from embedmill.devices.bundle import bundle

SECRET = "s3cr3t"  # noqa: S105 - the tests' own


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with server_in(tmp_path / "fleet") as found:
        yield found


def attend(server: Server, worker: str, command: Sequence[str], **more: Any) -> subprocess.Popen[str]:
    """As a build server does it: the program in a file, the order on stdin, nothing installed."""
    program = server.folder.parent / "attend.py"
    program.write_text(bundle("attend"))
    order = {"worker": worker, "folder": str(server.folder), "gpus": ["GPU-1"], "command": command, **more}
    process = subprocess.Popen(
        [sys.executable, "-I", str(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PATH": os.environ["PATH"], "STORE_KEY": SECRET, "OTHER": "not lent"},
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(order))
    process.stdin.close()
    process.stdin = None
    return process


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    out, _ = process.communicate(timeout=120)
    return process.returncode, out


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("exit 0", 0),
        ("exit 75", 75),
        ("echo no model >&2; exit 3", 3),
        ("kill -KILL $$", 128 + signal.SIGKILL),
    ],
)
def test_it_ends_as_its_worker_does(server: Server, command: str, code: int) -> None:
    found, said = ended(attend(server, "w1", ("sh", "-c", command)))
    assert found == code
    assert said.splitlines()[0] == "w1 works"
    assert "no model" in said or code != 3


def test_a_gpu_that_another_holds_is_given_back(server: Server) -> None:
    server.start("other", ["GPU-1"])
    code, said = ended(attend(server, "w1", ("true",)))
    assert (code, said.startswith("w1 taken: ")) == (75, True)


def test_what_cannot_be_started_is_said(server: Server) -> None:
    code, said = ended(attend(server, "w1", ("/nowhere/podman",)))
    assert code == 126
    assert "/nowhere/podman: no such file" in said


def test_a_second_start_stays_with_the_first_ones_worker(server: Server, tmp_path: Path) -> None:
    started = tmp_path / "started"
    command = ("sh", "-c", f"echo >> {started}; sleep 1; exit 9")
    first = attend(server, "w1", command)
    until(started.exists, "a worker")
    first.kill()  # as a lost connection does: what it started works on
    first.communicate()
    code, said = ended(attend(server, "w1", command))
    assert (code, said.splitlines()[0]) == (9, "w1 works already")
    assert started.read_text() == "\n"


def test_sigterm_stops_the_worker_first(server: Server) -> None:
    process = attend(server, "w1", ("sh", "-c", "trap 'exit 75' TERM; while :; do sleep 0.1; done"))
    until(lambda: server.runs("w1"), "a worker")
    process.terminate()
    code, said = ended(process)
    assert code == 75
    assert said.splitlines()[-1] == "w1 was stopped"
    assert not server.runs("w1")


def test_only_secrets_that_are_lent_reach_stdin_and_none_is_said(server: Server, tmp_path: Path) -> None:
    told = tmp_path / "told"
    process = attend(server, "w1", ("sh", "-c", f"cat > {told}"), secrets=["STORE_KEY", "ABSENT"])
    code, said = ended(process)
    assert code == 0
    assert json.loads(told.read_text()) == {"STORE_KEY": SECRET}
    assert SECRET not in said
    notes = [file.read_bytes() for file in server.folder.rglob("*") if file.is_file()]
    assert not any(SECRET.encode() in each for each in notes)
