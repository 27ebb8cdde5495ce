"""Where does a run's time go? Seconds of its stages, and of its loops', by each kind of catalog.

    python -m benchmarks.stages [--rounds 3] [--json]

Of the texts of `make bench-text` and the pictures of `make bench-pictures`, which make them. Every run is a
first one, in a store that is empty. Stages of a run follow each other. Those of a loop overlap, so that they
may take longer together than the loop; what `work` takes beyond the longest of them is mostly the loops'
start: imports and the model.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.support.measuring import Findings, Spread, not_run, warned
from benchmarks.support.stores import BUILT


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    lines = warned()
    pipelines = made()
    if not pipelines:
        return not_run("`make bench-text` and `make bench-pictures` make the catalogs")
    figures = {file.parent.name: measured(file, options.rounds) for file in pipelines}
    for name, found in figures.items():
        lines += ["", name, *shown(found)]
    return Findings("bench-stages/1", figures, lines, []).tell(as_json=options.json)


def made() -> list[Path]:
    """What other benchmarks have left."""
    return sorted([*BUILT.glob("text/day-0.yaml"), *BUILT.glob("pictures-*/day-0.yaml")])


def measured(pipeline: Path, rounds: int) -> dict[str, Any]:
    """Of each stage, seconds; of a loop's stages, the mean over the loops of a run."""
    runs = [staged(pipeline) for _ in range(rounds)]
    return {
        "run_s": spreads([run["stages"] for run in runs]),
        "loop_s": spreads([means(run["loops"]) for run in runs]),
        "loops": len(runs[0]["loops"]),
    }


def staged(pipeline: Path) -> dict[str, Any]:
    """A run in a store that is empty."""
    shutil.rmtree(pipeline.parent / "mill", ignore_errors=True)
    command = [sys.executable, "-m", "benchmarks.support.staged", str(pipeline)]
    found: dict[str, Any] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return found


def means(loops: Sequence[dict[str, float]]) -> dict[str, float]:
    return {stage: sum(loop[stage] for loop in loops) / len(loops) for stage in loops[0]}


def spreads(runs: Sequence[dict[str, float]]) -> dict[str, Spread]:
    return {stage: Spread.of([run[stage] for run in runs]) for stage in runs[0]}


def shown(found: dict[str, Any]) -> list[str]:
    """Lines for people: the run's stages with their part of it, and below `work` those of a loop."""
    whole = sum(spread.median for spread in found["run_s"].values())
    lines = []
    for stage, spread in found["run_s"].items():
        lines.append(f"  {stage:<26}{spread!s:>26} s {spread.median / whole:>6.1%}")
        if stage == "work":
            lines += [f"    {name:<24}{each!s:>26} s" for name, each in found["loop_s"].items()]
    return [*lines, f"  {'whole':<26}{whole:>26,.3g} s, {found['loops']} loops"]


if __name__ == "__main__":
    sys.exit(main())
