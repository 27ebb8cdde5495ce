"""Runs commands: in this process, in one of their own, or on a terminal."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from embedmill.cli import main


@dataclass(frozen=True)
class Said:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on stdout."""
        return json.loads(self.out)


class Terminal:
    """Runs commands in this process, as the console script does."""

    def __init__(self, captured: pytest.CaptureFixture[str]) -> None:
        self._captured = captured

    def __call__(self, *arguments: str | Path) -> Said:
        self._captured.readouterr()
        code = main([str(argument) for argument in arguments])
        said = self._captured.readouterr()
        return Said(code, said.out, said.err)

    def json(self, *arguments: str | Path, code: int = 0) -> Any:
        """The document that a command prints with --json, nothing else being on stdout."""
        said = self(*arguments, "--json")
        assert said.code == code, said
        return said.json


def command_line(*arguments: str | Path) -> list[str]:
    """A command in a process of its own."""
    return [sys.executable, "-m", "embedmill", *(str(argument) for argument in arguments)]


def run_alone(*arguments: str | Path, **environment: str) -> Said:
    """Run a command in a process of its own, whose output is no terminal."""
    done = subprocess.run(
        command_line(*arguments),
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=120,
        check=False,
    )
    return Said(done.returncode, done.stdout, done.stderr)


def run_on_a_terminal(*arguments: str | Path, **environment: str) -> str:
    """All that a command writes to a terminal of 80 columns."""
    leader, follower = os.openpty()
    process = subprocess.Popen(
        command_line(*arguments),
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", **environment},
    )
    os.close(follower)
    written = b""
    with contextlib.suppress(OSError):  # so Linux tells that the other end is closed
        while chunk := os.read(leader, 65536):
            written += chunk
    os.close(leader)
    assert process.wait(timeout=60) == 0, written.decode()
    return written.decode()
