"""How near are images to what decoding and the model cost alone? EfficientNet-Lite0, JPEGs of 1000 x 1000.

    make bench-pictures
    python -m benchmarks.pictures [--images 256 | --full] [--package FOLDER] [--rounds 3] [--json]

The bound is 1 / (1 / decoding alone + 1 / model alone): images a second of a process a core, each on one
thread, that decode (and cut and normalise) the catalog's images, or compute batches of 16, and do nothing
else. End to end is from reading the Parquet file to the last commit record, in a store that is empty; its
loops' start is part of it, so that few images say little: `--full` are 2,048, and `--images 8192` a larger
catalog, whose JPEGs (1.7 GB) are made once. What a still larger one nears is shown beside it: the work alone,
without the plan. Beside both the processor time of an image, which other work on the machine moves less: of
both alone, and of the whole run. All of it twice: JPEGs decoded whole, and at a reduced scale. `make
bench-pictures` converts the weights in the environment of torch; `--package` is another model with one image
input, without `reduced`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from benchmarks.decoding import picture
from benchmarks.support.measuring import Findings, Spread, Verdict, cores, in_turns, not_run, warned
from benchmarks.support.stores import BUILT, ROOT, write_pipeline

from embedmill.model.importing import import_declared

OF_BOUND = 0.90
SHARD_ROWS = 64
"""By default 2,048 rows are four shards, and so work for no more loops."""
REDUCED = {"reduced": 1.5, "reduced_cosine": 0.99}
SIDE = 1000
TORCH = ROOT / ".venv" / "torch" / "bin" / "python"
CONVERT = ROOT / "examples" / "efficientnet-lite0" / "convert_weights.py"
ALONE_S = 4.0
GROUP_ROWS = 256


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--full", action="store_true", help="2,048 images")
    parser.add_argument("--package", type=Path, help="a model package, instead of EfficientNet-Lite0")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    lines = warned()
    package = options.package or efficientnet()
    if package is None:
        return not_run("the weights are converted in the environment of `make environment-torch`")
    images = 2048 if options.full else options.images
    packages = {"whole": package.resolve(), "reduced": reducing(package)}
    figures = {
        how: measured(prepared(images, each), each, images, options.rounds) for how, each in packages.items()
    }
    lines += [line for how in figures for line in ("", f"JPEGs decoded {how}", *shown(figures[how]))]
    verdicts = [verdict for how in figures for verdict in judged(how, figures[how])]
    return Findings("bench-pictures/3", figures, lines, verdicts).tell(as_json=options.json)


def efficientnet() -> Path | None:
    """The package, made once; None where the environment that converts it is absent."""
    package = BUILT / "efficientnet"
    if not package.is_dir():
        if not TORCH.is_file():
            return None
        converted = BUILT / "efficientnet-converted"
        subprocess.run([str(TORCH), str(CONVERT), str(converted)], check=True, stdout=subprocess.DEVNULL)
        import_declared(converted / "model.onnx", converted / "model.yaml", package)
    return package


def reducing(package: Path) -> Path:
    """The same package, but its JPEGs are decoded at a reduced scale."""
    folder = BUILT / f"{package.name}-reduced"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(package, folder)
    declared = yaml.safe_load((folder / "model.yaml").read_text())
    for inputs in declared["encoders"].values():
        for each in inputs.values():
            each["image"] |= REDUCED
    (folder / "model.yaml").write_text(yaml.safe_dump(declared, sort_keys=False))
    return folder.resolve()


def prepared(images: int, package: Path) -> Path:
    """A pipeline over so many different JPEGs, in one Parquet file."""
    folder = BUILT / f"pictures-{images}"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "day-0.parquet"
    if not file.is_file():
        drawn(file, images)
    return write_pipeline(folder, model=str(package), columns=("id",), work={"shard_rows": SHARD_ROWS})


def drawn(file: Path, images: int) -> None:
    """Write them, so many at a time, that a large catalog fits into memory."""
    partial = file.with_suffix(".part")
    with pq.ParquetWriter(partial, pa.schema({"id": pa.int64(), "image": pa.binary()})) as writer:
        for start in range(0, images, GROUP_ROWS):
            seeds = range(start, min(images, start + GROUP_ROWS))
            jpegs = [picture(SIDE, SIDE, "JPEG", seed) for seed in seeds]
            writer.write_table(pa.table({"id": list(seeds), "image": jpegs}))
    partial.rename(file)


def measured(pipeline: Path, package: Path, images: int, rounds: int) -> dict[str, Any]:
    """Images a second of each way, in turns, and what one costs in milliseconds of processor time."""
    stages: list[dict[str, float]] = []
    cpu: dict[str, list[float]] = {"decode": [], "model": [], "run": []}

    def alone(kind: str) -> float:
        rate, cpu_s = bare(kind, package, pipeline)
        cpu[kind].append(1000 * cpu_s)
        return rate

    def end_to_end() -> float:
        shutil.rmtree(pipeline.parent / "mill", ignore_errors=True)
        said, cpu_s = staged(pipeline)
        cpu["run"].append(1000 * cpu_s / images)
        stages.append(said["stages"])
        return images / (stages[-1]["plan"] + stages[-1]["work"])

    ways = {
        "decoding alone": lambda: alone("decode"),
        "the model alone": lambda: alone("model"),
        "end to end": end_to_end,
    }
    found = in_turns(ways, rounds)
    bound = 1 / (1 / found["decoding alone"].median + 1 / found["the model alone"].median)
    work = Spread.of(images / each["work"] for each in stages)
    return {
        "images": images,
        "images_per_s": found,
        "bound_per_s": bound,
        "of_bound": {"end to end": found["end to end"].median / bound, "its work": work.median / bound},
        "cpu_ms": {name: Spread.of(each) for name, each in cpu.items()},
        "stages": {name: Spread.of(each[name] for each in stages) for name in stages[0]},
    }


def staged(pipeline: Path) -> tuple[dict[str, Any], float]:
    """What a run says of its stages, and its seconds of processor time, with all that it started."""
    command = [sys.executable, "-m", "benchmarks.support.staged", str(pipeline)]
    before = os.times()
    said = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return json.loads(said), spent


def bare(kind: str, package: Path, pipeline: Path) -> tuple[float, float]:
    """Images a second of a process a core, and seconds of processor time of an image."""
    words = [kind, str(package), str(pipeline.with_suffix(".parquet")), str(ALONE_S)]
    command = [sys.executable, "-m", "benchmarks.support.bare_images", *words]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(cores())]
    said = [process.communicate()[0].split() for process in running]
    if any(process.returncode for process in running):
        raise SystemExit(f"{' '.join(command)}: failed")
    return sum(float(rate) for rate, _ in said), statistics.mean(float(cpu) for _, cpu in said)


def shown(figures: dict[str, Any]) -> list[str]:
    """Lines for people."""
    lines = [f"{figures['images']:,} images", ""]
    lines += [f"  {name:<20}{spread!s:>28} images/s" for name, spread in figures["images_per_s"].items()]
    lines += [f"  {'bound':<20}{figures['bound_per_s']:>28.3g} images/s", ""]
    lines += [f"  {f'{name}, of it':<20}{rate:>28.3g}" for name, rate in figures["of_bound"].items()]
    lines.append("")
    lines += [
        f"  {f'CPU, {name}':<20}{spread!s:>28} ms an image" for name, spread in figures["cpu_ms"].items()
    ]
    lines.append("")
    return lines + [f"  {name:<24}{spread!s:>28} s" for name, spread in figures["stages"].items()]


def judged(how: str, figures: dict[str, Any]) -> list[Verdict]:
    """Beside the bound."""
    rate = figures["of_bound"]["end to end"]
    return [Verdict(f"JPEGs decoded {how}, end to end, of the bound", rate, OF_BOUND)]


if __name__ == "__main__":
    sys.exit(main())
