"""How many multiply-adds can this machine do? GFLOP/s in float32, of one core and of all of them.

    python -m benchmarks.peak [--seconds 1] [--rounds 5] [--json]

Compiles benchmarks/peak.c for this processor, which needs gcc and libc6-dev.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.support.measuring import Findings, cores, in_turns, not_run, warned

SOURCE = Path(__file__).with_name("peak.c")
FLAGS = ("-O3", "-march=native", "-ffp-contract=fast", "-pthread")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1.0, help="of each run")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    lines = warned()
    with tempfile.TemporaryDirectory() as folder:
        program = compiled(Path(folder))
        if program is None:
            return not_run("there is no gcc (Debian: apt-get install gcc libc6-dev)")
        ways = {
            "one core": lambda: gflops(program, 1, options.seconds),
            "all cores": lambda: gflops(program, cores(), options.seconds),
        }
        found = in_turns(ways, options.rounds)
    lines += [f"{name:<12}{spread!s:>28} GFLOP/s" for name, spread in found.items()]
    return Findings("bench-peak/1", {"gflops": found}, lines, []).tell(as_json=options.json)


def compiled(folder: Path) -> Path | None:
    """The program, built into a folder; None where there is no compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        return None
    program = folder / "peak"
    subprocess.run([compiler, *FLAGS, str(SOURCE), "-o", str(program)], check=True)
    return program


def gflops(program: Path, threads: int, seconds: float) -> float:
    """What so many threads do together."""
    said = subprocess.run(
        [str(program), str(threads), str(seconds)], capture_output=True, text=True, check=True
    )
    return float(said.stdout.split()[0])


if __name__ == "__main__":
    sys.exit(main())
