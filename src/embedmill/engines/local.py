"""Worker loops as processes of this machine, one a core or device."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from embedmill.types import Look, Placement, WorkerState

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

GRACE_S = 10.0
TAIL_BYTES = 8192
KILLS = (Path("/sys/fs/cgroup/memory.events"), Path("/proc/vmstat"))
"""What counts processes that the kernel ended for lack of memory, as `oom_kill`: of a container, or of all.

https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files
"""


@dataclass(frozen=True)
class LocalPlaces:
    """Cores of this machine: a loop for each `threads` of them, unless `workers` says how many."""

    workers: int | None
    threads: int = 1
    again_s: float | None = None
    waits: bool = False

    def look(self, most: int, held: Collection[str]) -> Look:  # noqa: ARG002 - nobody takes cores away
        """All of them, and no more loops than shards."""
        loops = self.workers or max(1, len(os.sched_getaffinity(0)) // self.threads)
        places = (Placement(f"local-{number}", threads=self.threads) for number in range(min(loops, most)))
        return Look(tuple(places))


class LocalEngine:
    """Subprocesses that end when this process does.

    One that the kernel ended for lack of memory starts again with batches half as large.
    """

    def __init__(self, kills: Sequence[Path] = KILLS) -> None:
        """Start nothing yet. `kills`: files that may count what the kernel ended; the first one counts."""
        self._processes: dict[str, tuple[subprocess.Popen[bytes], BinaryIO]] = {}
        self._kills = kills
        self._killed = memory_kills(kills)
        self._halvings: dict[str, int] = {}

    def start(self, run_url: str, placements: Sequence[Placement]) -> None:
        """Start a process for each placement that has none running."""
        for place in placements:
            running = self._processes.get(place.worker)
            if running is None or running[0].poll() is not None:
                if running is not None and self._had_no_memory(running[0]):
                    self._halvings[place.worker] = self._halvings.get(place.worker, 0) + 1
                self._start(run_url, place)

    def states(self) -> list[WorkerState]:
        """Exit codes as subprocess gives them: minus the signal's number where one ended it."""
        return [
            WorkerState(name, process.poll(), _tail(words) if process.poll() is not None else "")
            for name, (process, words) in self._processes.items()
        ]

    def stop(self) -> None:
        """SIGTERM, GRACE_S seconds, SIGKILL."""
        for process, _ in self._processes.values():
            process.terminate()
        deadline = time.monotonic() + GRACE_S
        for process, words in self._processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
            process.kill()
            process.wait()
            words.close()
        self._processes.clear()

    def _had_no_memory(self, ended: subprocess.Popen[bytes]) -> bool:
        """Whether the kernel ended it, and not somebody's `kill -9`; each that it ended is counted once."""
        if ended.returncode != -signal.SIGKILL or memory_kills(self._kills) <= self._killed:
            return False
        self._killed += 1
        return True

    def _start(self, run_url: str, place: Placement) -> None:
        words = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop
        command = [sys.executable, "-m", "embedmill", "worker", "--run", run_url, "--name", place.worker]
        command += ["--device", place.device, "--threads", str(place.threads), "--parent", str(os.getpid())]
        command += ["--where", f"host={place.host.name}"] if place.host else []
        halvings = self._halvings.get(place.worker, 0)
        command += ["--halvings", str(halvings)] if halvings else []
        environment = {**os.environ, "OMP_NUM_THREADS": str(place.threads), "TOKENIZERS_PARALLELISM": "false"}
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=words,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches this process alone, which then stops them in order
        )
        self._processes[place.worker] = (process, words)


def memory_kills(files: Sequence[Path] = KILLS) -> int:
    """How many processes the kernel ended for lack of memory by now; 0 where nothing counts them."""
    for file in files:
        with contextlib.suppress(OSError, ValueError):
            for line in file.read_text().splitlines():
                name, _, value = line.partition(" ")
                if name == "oom_kill":
                    return int(value)
    return 0


def _tail(words: BinaryIO) -> str:
    """The last line that a process wrote."""
    size = words.seek(0, os.SEEK_END)
    words.seek(max(0, size - TAIL_BYTES))
    lines = words.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""
