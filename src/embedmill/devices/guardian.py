"""Ends what a holder left behind: a process beside it that hears of its death by the end of a pipe.

The kernel ends the worker itself when its holder is killed (`dying_with`), but not the worker's children, and
not a container. The guardian is made before any lock is taken, so that it keeps none.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

PR_SET_PDEATHSIG = 1
"""prctl(2)."""
CLEANUP_S = 60.0
HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Guardian:
    """The guardian of this process."""

    def __init__(self) -> None:
        """Start it. The caller has no lock yet, and no thread."""
        reading, self._pipe = os.pipe()
        parts = (self._pipe, reading)
        self._pid = os.fork()
        if self._pid == 0:
            _guard(*parts)
        os.close(reading)

    def watch(self, group: int, cleanup: Sequence[str]) -> None:
        """What to end when this process is gone: a group of processes, then what `cleanup` ends."""
        self._tell({"group": group, "cleanup": list(cleanup)})

    def dismiss(self) -> None:
        """Nothing is left to end."""
        self._tell({"over": True})
        os.close(self._pipe)
        os.waitpid(self._pid, 0)

    def _tell(self, words: dict[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(self._pipe, json.dumps(words).encode() + b"\n")


def dying_with(parent: int) -> Callable[[], None]:
    """What a child calls before it becomes another program, so that it is killed when its parent ends."""
    libc = ctypes.CDLL(None)

    def prepare() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        for each in HANDLED:
            signal.signal(each, signal.SIG_DFL)
        if os.getppid() != parent:  # it ended before
            os._exit(1)

    return prepare


def end_all(group: int, cleanup: Sequence[str]) -> None:
    """Kill a group of processes, and run a command that ends what else belongs to it, such as a container."""
    if group > 1:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
    if cleanup:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            null = subprocess.DEVNULL
            subprocess.run(cleanup, stdin=null, stdout=null, stderr=null, timeout=CLEANUP_S, check=False)


def _guard(others: int, reading: int) -> None:
    """The guardian's whole life."""
    try:
        os.close(others)
        os.setsid()
        for each in HANDLED:
            signal.signal(each, signal.SIG_IGN)
        told: dict[str, Any] = {}
        with os.fdopen(reading, "rb") as pipe:
            for line in pipe:
                told.update(json.loads(line))
        if "group" in told and not told.get("over"):
            cleanup: list[str] = told["cleanup"]
            end_all(told["group"], cleanup)
    finally:
        os._exit(0)
