"""Many histories on all cores: `python -m tests.simulation.many [FIRST [END]]`, 0 to 2000 if nothing is said.

Prints each seed that breaks a promise, with the promise; the same seed replays the same trace.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from tests.simulation.conftest import build_stage
from tests.simulation.history import Simulation


def broken(seeds: range) -> list[tuple[int, str]]:
    """Seeds that fail, and why."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        stage = build_stage(Path(folder))
        for seed in seeds:
            try:
                Simulation(stage, seed).run()
            except BaseException as error:  # noqa: BLE001 - told, whatever it is
                found.append((seed, f"{type(error).__name__}: {error}"))
    return found


def main() -> int:
    """Share the seeds among the cores; returns the exit code."""
    first, end = [*map(int, sys.argv[1:]), *(0, 2000)[len(sys.argv) - 1 :]]
    cores, started = len(os.sched_getaffinity(0)), time.monotonic()
    parts = [range(first + core, end, cores) for core in range(cores)]
    with ProcessPoolExecutor(cores, get_context("spawn")) as pool:
        failures = sorted(failure for part in pool.map(broken, parts) for failure in part)
    for seed, why in failures:
        print(f"seed {seed}: {why}")
    seconds = time.monotonic() - started
    print(f"{end - first} histories on {cores} cores in {seconds:.0f} s: {len(failures)} broken")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
