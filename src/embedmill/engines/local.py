"""Worker loops as processes of this machine: one for several cores where they can share it, else one each."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from embedmill.cores import EVERY, cores
from embedmill.memory import KILLS, memory_kills
from embedmill.types import Look, Placement, WorkerState

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from embedmill.types import Opening

GRACE_S = 10.0
TAIL_BYTES = 8192
SETTLED_S = 10.0
"""So long after the kernel counted a process, it has ended: a loop that still runs was not meant."""
KEPT = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(64 << 20)}
"""Of glibc: what opening a model frees is used again, and not got back from the kernel page by page.

Older ones (before some 2.35) refuse more than 32 MiB as the first. The second alone would have them map and
unmap whatever has 128 KiB.
"""
ALONE = {"PYDANTIC_DISABLE_PLUGINS": "__all__"}
"""Else pydantic looks for plugins in each package that is installed, at each start of a loop."""
ANY = "*"
"""In place of a run's name, where it is told later."""


@dataclass(frozen=True)
class LocalPlaces:
    """Cores of this machine: a lane for each `threads` of them, and as few loops as have so many `lanes`.

    `workers` says how many loops of one lane there are instead. Where those need more threads than there are
    cores, each has fewer, so that no two share a core. `worth`: the most loops that are worth starting.
    """

    workers: int | None
    threads: int = 1
    again_s: float | None = None
    waits: bool = False
    lanes: int = 1
    worth: int = sys.maxsize

    def look(self, most: int, held: Collection[str]) -> Look:  # noqa: ARG002 - nobody takes cores away
        """All of them, and no more loops than shards.

        A loop's lanes depend on neither, so that one that stands by is what is wanted once those are known.
        """
        every = cores(EVERY)
        seats = self.workers or max(1, every // self.threads)
        threads = min(self.threads, max(1, every // seats))
        loops = -(-seats // (1 if self.workers else self.lanes))
        places = (
            Placement(f"local-{number}", threads=threads, lanes=seats // loops + (number < seats % loops))
            for number in range(min(loops, most, self.worth))
        )
        return Look(tuple(places))


@dataclass
class _Loop:
    """A process, and the file that it writes its words to.

    `starved`: whether the kernel ended it for lack of memory; None: nobody has looked yet.
    """

    process: subprocess.Popen[bytes]
    words: BinaryIO
    starved: bool | None = None

    def end(self) -> None:
        self.process.kill()
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait()
        self.words.close()


class LocalEngine:
    """Subprocesses that end when this process does.

    One that the kernel ended for lack of memory starts again with batches half as large.
    """

    def __init__(self, kills: Sequence[Path] = KILLS, *, settled_s: float = SETTLED_S) -> None:
        """Start nothing yet. `kills`: files that may count what the kernel ended; the first one counts."""
        self._loops: dict[str, _Loop] = {}
        self._waiting: dict[Placement, _Loop] = {}
        self._kills = kills
        self._settled_s = settled_s
        self._killed = self._counted = memory_kills(kills)
        self._counted_s = time.monotonic()
        self._halvings: dict[str, int] = {}

    def stand_by(self, runs_url: str, placements: Sequence[Placement], opening: Opening) -> None:
        """Start processes that open the model and read from stdin what their run is."""
        for place in placements:
            if place not in self._waiting:
                ahead = ("--ahead", json.dumps(asdict(opening)))
                self._waiting[place] = _started(f"{runs_url}/{ANY}", place, ahead, stdin=subprocess.PIPE)

    def start(self, run_url: str, placements: Sequence[Placement]) -> None:
        """Start a process for each placement that has none running, or tell one that stands by."""
        for place in placements:
            running = self._loops.get(place.worker)
            if running is None or running.process.poll() is not None:
                if running is not None:
                    self._judge(place.worker, running)
                waiting = self._waiting.pop(place, None)
                if waiting is None or not _tell(waiting, run_url):
                    halvings = self._halvings.get(place.worker, 0)
                    waiting = _started(run_url, place, ("--halvings", str(halvings)) if halvings else ())
                self._loops[place.worker] = waiting
        self._dismiss()

    def states(self) -> list[WorkerState]:
        """Exit codes as subprocess gives them: minus the signal's number where one ended it."""
        states = [self._state(name, loop) for name, loop in self._loops.items()]
        if all(state.exit_code != -signal.SIGKILL for state in states):
            self._leave_to_others()
        return states

    def stop(self) -> None:
        """SIGTERM, GRACE_S seconds, SIGKILL; those that stand by have nothing to end in order."""
        self._dismiss()
        for loop in self._loops.values():
            loop.process.terminate()
        deadline = time.monotonic() + GRACE_S
        for loop in self._loops.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                loop.process.wait(max(0.0, deadline - time.monotonic()))
            loop.end()
        self._loops.clear()

    def _state(self, name: str, loop: _Loop) -> WorkerState:
        exit_code = loop.process.poll()
        if exit_code is None:
            return WorkerState(name, None)
        self._judge(name, loop)
        halvings = self._halvings[name] if loop.starved else 0
        return WorkerState(name, exit_code, _tail(loop.words), halvings=halvings)

    def _judge(self, name: str, ended: _Loop) -> None:
        """Find out, once, whether it ended for lack of memory: then the next one of its name is smaller."""
        if ended.starved is None:
            ended.starved = self._had_no_memory(ended.process)
            self._halvings[name] = self._halvings.get(name, 0) + ended.starved

    def _had_no_memory(self, ended: subprocess.Popen[bytes]) -> bool:
        """Whether the kernel ended it, and not somebody's `kill -9`; each that it ended is counted once."""
        if ended.returncode != -signal.SIGKILL or memory_kills(self._kills) <= self._killed:
            return False
        self._killed += 1
        return True

    def _leave_to_others(self) -> None:
        """No loop was killed: what the kernel had counted a while ago were processes of others."""
        now_s = time.monotonic()
        if now_s - self._counted_s >= self._settled_s:
            self._killed = max(self._killed, self._counted)
            self._counted, self._counted_s = memory_kills(self._kills), now_s

    def _dismiss(self) -> None:
        """End the loops that nobody needed."""
        for loop in self._waiting.values():
            loop.end()
        self._waiting.clear()


def _started(
    run_url: str, place: Placement, more: Sequence[str] = (), *, stdin: int = subprocess.DEVNULL
) -> _Loop:
    words = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
    command = [sys.executable, "-m", "embedmill", "worker", "--run", run_url, "--name", place.worker]
    command += ["--device", place.device, "--threads", str(place.threads), "--lanes", str(place.lanes)]
    command += ["--parent", str(os.getpid())]
    command += ["--where", f"host={place.host.name}"] if place.host else []
    environment = {**KEPT, **ALONE, **os.environ, **_threads_of_libraries(place)}
    process = subprocess.Popen(
        [*command, *more],
        stdin=stdin,
        stdout=subprocess.DEVNULL,
        stderr=words,
        env=environment,
        start_new_session=True,  # Ctrl-C reaches this process alone, which then stops them in order
    )
    return _Loop(process, words)


def _threads_of_libraries(place: Placement) -> dict[str, str]:
    """What a loop computes has `threads`; texts are tokenized on all cores that it has for its lanes.

    Before its first batch nothing else has need of them.
    """
    tokenizers = {"TOKENIZERS_PARALLELISM": "true", "RAYON_NUM_THREADS": str(place.threads * place.lanes)}
    alone = {"TOKENIZERS_PARALLELISM": "false"}
    return {"OMP_NUM_THREADS": str(place.threads), **(tokenizers if place.lanes > 1 else alone)}


def _tell(loop: _Loop, run_url: str) -> bool:
    """Tell a loop that stands by what its run is; whether it was there to hear it."""
    pipe = loop.process.stdin
    try:
        if pipe is None or loop.process.poll() is not None:
            raise BrokenPipeError
        with pipe:
            pipe.write(f"{run_url}\n".encode())
    except BrokenPipeError:
        loop.end()
        return False
    return True


def _tail(words: BinaryIO) -> str:
    """The last line that a process wrote."""
    size = words.seek(0, os.SEEK_END)
    words.seek(max(0, size - TAIL_BYTES))
    lines = words.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""
