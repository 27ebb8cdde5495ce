"""Worker loops as processes of this machine, one a core or device."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from embedmill.types import Look, Placement, WorkerState

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

GRACE_S = 10.0
TAIL_BYTES = 8192


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
    """Subprocesses that end when this process does."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self._processes: dict[str, tuple[subprocess.Popen[bytes], BinaryIO]] = {}

    def start(self, run_url: str, placements: Sequence[Placement]) -> None:
        """Start a process for each placement that has none running."""
        for place in placements:
            running = self._processes.get(place.worker)
            if running is None or running[0].poll() is not None:
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

    def _start(self, run_url: str, place: Placement) -> None:
        words = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop
        command = [sys.executable, "-m", "embedmill", "worker", "--run", run_url, "--name", place.worker]
        command += ["--device", place.device, "--threads", str(place.threads), "--parent", str(os.getpid())]
        command += ["--where", f"host={place.host.name}"] if place.host else []
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


def _tail(words: BinaryIO) -> str:
    """The last line that a process wrote."""
    size = words.seek(0, os.SEEK_END)
    words.seek(max(0, size - TAIL_BYTES))
    lines = words.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""
