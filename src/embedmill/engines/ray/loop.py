"""A worker loop as a child of an actor: started with its secrets on stdin, watched, ended.

The standard library alone: it runs on nodes, whatever Ray is there.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

WATCH_S = 1.0
LAST_LINES = 20
MIB = 1 << 20
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
PARENT, RSS = 1, 21
"""Fields of /proc/PID/stat after the name; see proc_pid_stat(5)."""


class Loop:
    """One process of `embedmill worker`, in a session of its own; its stdout tells how far it is."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], secrets: str, memory_mib: int
    ) -> None:
        """Start it.

        Args:
            command: Its argument vector.
            environment: All of its variables.
            secrets: Goes to its stdin, and nowhere else.
            memory_mib: What it and all that it starts may take; it is ended if they take more.

        Raises:
            OSError: There is no such program.
        """
        self._memory_mib = memory_mib
        self._said: deque[str] = deque(maxlen=LAST_LINES)
        self._why = ""
        self.progress: dict[str, Any] = {}
        """What it told last: the document `event/1`."""
        self._process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environment),
            start_new_session=True,
        )
        self._readers = [self._thread(self._hear), self._thread(self._listen)]
        self._thread(self._feed, secrets.encode())
        self._thread(self._watch)

    @property
    def exit_code(self) -> int | None:
        """As subprocess has it; None while it runs, or while its last words are still being read."""
        code = self._process.poll()
        return None if code is None or any(each.is_alive() for each in self._readers) else code

    @property
    def said(self) -> str:
        """Its last line, or why it was ended."""
        return self._why or next((line for line in reversed(self._said) if line), "")

    def stop(self, grace_s: float) -> None:
        """Ask it to stop after its batch; end it if it has not by then. Returns at once."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            self._thread(self._end_after, grace_s)

    def _thread(self, target: Any, *arguments: Any) -> threading.Thread:
        thread = threading.Thread(target=target, args=arguments, name="loop", daemon=True)
        thread.start()
        return thread

    def _feed(self, secrets: bytes) -> None:
        stdin = self._process.stdin
        if stdin is not None:
            with contextlib.suppress(BrokenPipeError, OSError), stdin:
                stdin.write(secrets)

    def _hear(self) -> None:
        for line in self._process.stderr or ():
            self._said.append(line.decode(errors="replace").strip())

    def _listen(self) -> None:
        for line in self._process.stdout or ():
            with contextlib.suppress(ValueError):
                told = json.loads(line)
                if isinstance(told, dict):
                    self.progress = told

    def _watch(self) -> None:
        while self._process.poll() is None:
            used_mib = tree_bytes(self._process.pid) // MIB
            if used_mib > self._memory_mib:
                self._why = f"its worker took {used_mib} MiB of memory, and may take {self._memory_mib}"
                self._end()
            time.sleep(WATCH_S)
        self._end()  # what it left behind

    def _end_after(self, grace_s: float) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(grace_s)
        self._end()

    def _end(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)


def tree_bytes(root: int) -> int:
    """Resident memory of a process and all that it started; what they share is counted for each."""
    children: dict[int, list[int]] = {}
    sizes: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                children.setdefault(int(fields[PARENT]), []).append(int(folder.name))
                sizes[int(folder.name)] = int(fields[RSS]) * PAGE_BYTES
    total, left = 0, [root]
    while left:
        pid = left.pop()
        total += sizes.get(pid, 0)
        left += children.get(pid, [])
    return total
