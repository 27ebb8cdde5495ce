"""Does `plan` keep up with a bare loop, and is its memory flat? Time and peak anonymous RSS, by size.

    python -m benchmarks.planning            20,000 and 200,000 items: the ratios say little
    python -m benchmarks.planning --full     10^6 and 10^7 items, of which nothing is published yet: minutes,
                                             2 GB in build/bench, and at least as much in $TMPDIR meanwhile
    python -m benchmarks.planning --items 50000 --rounds 3 --profile build/plan.prof [--json]

The bare loop reads the columns that the plan reads (pyarrow), makes one 128-bit digest a row of what the
model would see (BLAKE2b), and keeps nothing; a process for each core takes every so many row groups.
`--all-new` plans a first release, for which all inputs are spilled and frozen, as `--full` does; else the
catalog of the next day is planned, of which 1 % changed, over a release that is published the first time.
The bare loop's start and the plan's own (imports, opening the release) both count. `files` is what a process
for each core takes to write the plan's item files and shards from memory, and nothing else. What leaves these
files, for a catalog that it reads and digests once a row, has at most the speed `bound`, bare / (bare +
files). Processor time, of all processes of each, says more than the clock where the machine has other work.
`--profile` also runs the plan of the last size in this process under cProfile.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.support.measuring import Findings, Spread, Verdict, cores, in_turns, seconds_of, warned
from benchmarks.support.memory import Ran, ran
from benchmarks.support.stores import BUILT, linked, published, write_pipeline
from benchmarks.support.words import Words

from embedmill import Pipeline

FASTEST, MIB, FLAT = 0.7, 2048.0, 1.15
FLAT_FROM = 10**6
"""Items whose peak that of the largest size is compared with, where both were measured."""
DIMENSION = 16


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--items", type=int, nargs="+", default=[20_000, 200_000])
    parser.add_argument("--full", action="store_true", help="first plans of 10^6 and 10^7 items")
    parser.add_argument("--all-new", action="store_true", help="plan a first release")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", type=Path, help="where to write the profile of a plan")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    sizes = [10**6, 10**7] if options.full else sorted(options.items)
    all_new = options.all_new or options.full
    lines = warned()
    lines.append("first plans" if all_new else "plans over a release of which 1 % changed")
    lines.append(
        f"{'items':>12}{'plan, s':>28}{'bare loop, s':>28}{'speed':>7}{'files, s':>28}{'bound':>7}"
        f"{'peak MiB':>10}{'CPU, µs an item':>22}"
    )
    rows = []
    for items in sizes:
        row = measured(items, options.rounds, all_new=all_new)
        rows.append(row)
        lines.append(
            f"{items:>12,}{row['plan_s']!s:>28}{row['bare_s']!s:>28}{row['speed']:>7.2f}"
            f"{row['files_s']!s:>28}{row['bound']:>7.2f}"
            f"{row['peak_mib']:>10.0f}{row['plan_cpu_us']:>12.2f}, bare {row['bare_cpu_us']:.2f}"
        )
    if options.profile:
        profile(prepared(sizes[-1], all_new=all_new), options.profile)
    verdicts = [
        Verdict("speed of the bare loop on the same cores", rows[-1]["speed"], FASTEST),
        Verdict("peak anonymous MiB", rows[-1]["peak_mib"], MIB, at_least=False),
        flat(rows),
    ]
    return Findings("bench-planning/2", {"rows": rows}, lines, verdicts).tell(as_json=options.json)


def flat(rows: Sequence[Mapping[str, Any]]) -> Verdict:
    """Whether the largest size takes no more memory than FLAT_FROM's, or else than the smallest."""
    *others, largest = rows
    before = next((row for row in others if row["items"] == FLAT_FROM), rows[0])
    what = f"peak at {largest['items']:,} items, of that at {before['items']:,}"
    return Verdict(what, largest["peak_mib"] / before["peak_mib"], FLAT, at_least=False)


def prepared(items: int, *, all_new: bool) -> Path:
    """The pipeline whose plan is measured, in a folder of its own that stays."""
    folder = BUILT / f"planning-{items}"
    words = Words(dimension=DIMENSION)
    if not (folder / "model").is_dir():
        words.write_package(folder / "model")
    words.write_catalog(folder / "day-0.parquet", items)
    if all_new:
        return write_pipeline(folder, store="./again", index={"kind": "flat"})
    words.write_catalog(folder / "day-1.parquet", items, day=1)
    if not (folder / "published").is_file():
        published(folder, index={"kind": "flat"})
        (folder / "published").touch()
    return write_pipeline(folder, day=1, store="./again", index={"kind": "flat"})


def renewed(pipeline: Path, *, all_new: bool) -> None:
    """The store as it was before any plan."""
    empty = pipeline.parent / "empty"
    empty.mkdir(exist_ok=True)
    linked(empty if all_new else pipeline.parent / "mill", pipeline.parent / "again")


def measured(items: int, rounds: int, *, all_new: bool) -> dict[str, Any]:
    pipeline = prepared(items, all_new=all_new)
    catalog = pipeline.with_suffix(".parquet")
    plans: list[Ran] = []
    cpu_us: dict[str, list[float]] = {"plan": [], "bare": []}

    def plan() -> float:
        renewed(pipeline, all_new=all_new)
        before = processor_seconds()
        plans.append(ran([sys.executable, "-m", "embedmill", "plan", str(pipeline), "--json"]))
        cpu_us["plan"].append((processor_seconds() - before) / items * 1e6)
        return plans[-1].seconds

    def bare() -> float:
        before = processor_seconds()
        seconds = seconds_of(lambda: bare_loop(catalog))
        cpu_us["bare"].append((processor_seconds() - before) / items * 1e6)
        return seconds

    def files() -> float:
        return bare_files(pipeline.parent / "again")

    ways: dict[str, Callable[[], float]] = {"plan": plan, "files": files, "bare": bare}
    found = in_turns(ways, rounds, unmeasured=1)
    peak = Spread.of(each.together_mib for each in plans).median
    speed = found["bare"].median / found["plan"].median
    return {
        "items": items,
        "plan_s": found["plan"],
        "bare_s": found["bare"],
        "speed": speed,
        "files_s": found["files"],
        "bound": found["bare"].median / (found["bare"].median + found["files"].median),
        "peak_mib": peak,
        "plan_cpu_us": Spread.of(cpu_us["plan"]).median,
        "bare_cpu_us": Spread.of(cpu_us["bare"]).median,
    }


def processor_seconds() -> float:
    """Of all processes that this one has started and that have ended."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def bare_loop(catalog: Path) -> None:
    """Digest all rows, by a process for each core."""
    on_all_cores("benchmarks.support.bare_digests", str(catalog))


def bare_files(store: Path) -> float:
    """Seconds of writing what the store's newest plan left, by a process for each core: of the slowest."""
    newest = max(store.glob("*/runs/*/plan.json")).parent  # names of runs begin with their time
    with TemporaryDirectory(dir=store.parent) as target:
        return max(map(float, on_all_cores("benchmarks.support.bare_files", str(newest), target)))


def on_all_cores(module: str, *words: str) -> list[str]:
    """What a process for each core says; each is told its number, and of how many."""
    command = [sys.executable, "-m", module, *words]
    running = [
        subprocess.Popen([*command, str(first), str(cores())], stdout=subprocess.PIPE, text=True)
        for first in range(cores())
    ]
    said = [process.communicate()[0] for process in running]
    if any(process.returncode for process in running):
        raise SystemExit(f"{' '.join(command)}: failed")
    return said


def profile(pipeline: Path, file: Path) -> None:
    """Where a plan's time goes: the 25 functions with most of it on stderr, all of it in the file."""
    renewed(pipeline, all_new=pipeline.stem == "day-0")
    profiler = cProfile.Profile()
    profiler.runcall(Pipeline.from_file(pipeline).plan)
    profiler.dump_stats(file)
    pstats.Stats(profiler, stream=sys.stderr).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    sys.exit(main())
