"""Peak anonymous memory of a command and all that it starts: mapped files are the page cache's."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SAMPLE_S = 0.02
MIB = 1024.0
FORKED = 0x40
"""PF_FORKNOEXEC, of the kernel's include/linux/sched.h: its memory is that of whoever starts it."""


@dataclass(frozen=True)
class Ran:
    """A command that ended well, and its peaks of anonymous RSS: of the largest process, and of all."""

    largest_mib: float
    together_mib: float
    seconds: float
    stdout: str


def ran(command: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Ran:
    """Run a command, and sample /proc/PID/status of it and its descendants every 20 ms.

    Raises:
        SystemExit: It failed; with what it said on stderr.
    """
    environment = {**os.environ, **(env or {})}
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(list(command), stdout=out, stderr=said, env=environment, cwd=cwd)
        sampler = _Sampler(process.pid)
        sampler.start()
        code = process.wait()
        seconds = time.monotonic() - started
        sampler.stop()
        if code:
            said.seek(0)
            raise SystemExit(f"{said.read()}\n{' '.join(map(str, command))} ended with {code}")
        out.seek(0)
        return Ran(sampler.largest / MIB, sampler.together / MIB, seconds, out.read())


class _Sampler(threading.Thread):
    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.largest, self.together = pid, 0, 0
        self._done = threading.Event()

    def run(self) -> None:
        while not self._done.is_set():
            sizes = [anonymous_kib(pid) for pid in family(self.pid)]
            self.largest = max(self.largest, *sizes)
            self.together = max(self.together, sum(sizes))
            self._done.wait(SAMPLE_S)

    def stop(self) -> None:
        self._done.set()
        self.join()


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for member in found:
        found += _children(member)
    return found


def _children(pid: int) -> list[int]:
    """Of all threads: who started a child is its thread."""
    children: list[int] = []
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            children += map(int, (thread / "children").read_text().split())
    except OSError:
        pass
    return children


def anonymous_kib(pid: int) -> int:
    """RssAnon of a process; 0 once it is gone, and before it runs a program: then it is its parent's."""
    try:
        flags = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[6])
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    if flags & FORKED:
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon")), 0)
