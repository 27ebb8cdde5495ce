"""Runs a module of this package on a host where nothing is installed but python3.

program ─▶ stdin of `ssh HOST python3 -I -c RECEIVER` ─▶ exec; what follows in stdin is its input

So neither program nor input is on any disk or in any argument vector there.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from embedmill.devices.bundle import bundle

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Started = Callable[[subprocess.Popen[bytes]], object]

RECEIVER = "import sys; exec(sys.stdin.buffer.read(int(sys.stdin.buffer.readline())).decode())"
NO_PYTHON = 127
"""What a shell answers where there is no python3."""
SSH_FAILED = 255
"""What ssh answers where it had no connection."""


@dataclass(frozen=True)
class Answer:
    """What a program on a host left. `code` is None where it was ended because it took too long."""

    code: int | None
    out: bytes
    words: str

    @property
    def last_line(self) -> str:
        """The last line of stderr."""
        lines = self.words.strip().splitlines()
        return lines[-1].strip() if lines else ""


def run_there(
    reach: Sequence[str],
    module: str,
    *arguments: str,
    data: bytes = b"",
    timeout_s: float = 30.0,
    started: Started | None = None,
) -> Answer:
    """Run a module's `main()`; `reach` is followed by one command line for a shell, as ssh's is; empty: here.

    `started` hears of the process here, so that somebody else may end it.

    Raises:
        OSError: The program that `reach` begins with cannot be started.
    """
    program = bundle(module, *arguments).encode()
    sent = b"%d\n" % len(program) + program + data
    return run_command(reach, ("python3", "-I", "-c", RECEIVER), sent, timeout_s, started)


def run_command(
    reach: Sequence[str],
    command: Sequence[str],
    data: bytes,
    timeout_s: float,
    started: Started | None = None,
) -> Answer:
    """Run any command there; it, and what it started here, is killed after `timeout_s`.

    Raises:
        OSError: See `run_there`.
    """
    here = [sys.executable, *command[1:]] if command[0] == "python3" else list(command)
    process = subprocess.Popen(
        [*reach, shlex.join(command)] if reach else here,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # a hung ssh may have children, which would hold our pipes open
    )
    if started is not None:
        started(process)
    try:
        out, words = process.communicate(data, timeout_s)
        return Answer(process.returncode, out, words.decode(errors="replace"))
    except subprocess.TimeoutExpired:
        return Answer(None, b"", "")
    finally:
        end_group(process)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=5)


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Kill it and what it started, as far as that is in its session."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
