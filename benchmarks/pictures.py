"""How near are images to what decoding and the model cost alone? EfficientNet-Lite0, JPEGs of 1000 x 1000.

    make bench-pictures
    python -m benchmarks.pictures [--images 256 | --full] [--package FOLDER] [--rounds 3] [--json]

The bound is 1 / (1 / decoding alone + 1 / model alone): images a second of a process a core, each on one
thread, that decode (and cut and normalise) the catalog's images, or compute batches of 16, and do nothing
else. End to end is from reading the Parquet file to the last commit record, in a store that is empty; its
loops' start is part of it, so that few images say little: `--full` are 2,048. `make bench-pictures` converts
the weights in the environment of torch; `--package` is another model with one image input, `image`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from benchmarks.decoding import picture
from benchmarks.support.measuring import Findings, Spread, Verdict, cores, in_turns, warned
from benchmarks.support.memory import ran
from benchmarks.support.stores import BUILT, ROOT, write_pipeline

from embedmill.model.importing import import_declared

OF_BOUND = 0.90
SIDE = 1000
TORCH = ROOT / ".venv" / "torch" / "bin" / "python"
CONVERT = ROOT / "examples" / "efficientnet-lite0" / "convert_weights.py"
ALONE_S = 4.0


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
        print("not run: the weights are converted in the environment of `make environment-torch`")
        return 0
    images = 2048 if options.full else options.images
    package = package.resolve()
    figures = measured(prepared(images, package), package, images, options.rounds)
    return Findings("bench-pictures/1", figures, [*lines, *shown(figures)], judged(figures)).tell(
        as_json=options.json
    )


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


def prepared(images: int, package: Path) -> Path:
    """A pipeline over so many different JPEGs, in one Parquet file."""
    folder = BUILT / f"pictures-{images}"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "day-0.parquet"
    if not file.is_file():
        jpegs = [picture(SIDE, SIDE, "JPEG", seed) for seed in range(images)]
        pq.write_table(pa.table({"id": range(images), "image": jpegs}), file, row_group_size=256)
    return write_pipeline(folder, model=str(package), columns=("id",))


def measured(pipeline: Path, package: Path, images: int, rounds: int) -> dict[str, Any]:
    """Images a second of each way, in turns."""
    stages: list[dict[str, float]] = []

    def end_to_end() -> float:
        shutil.rmtree(pipeline.parent / "mill", ignore_errors=True)
        said = ran([sys.executable, "-m", "benchmarks.support.staged", str(pipeline)]).stdout
        stages.append(json.loads(said)["stages"])
        return images / (stages[-1]["plan"] + stages[-1]["work"])

    ways = {
        "decoding alone": lambda: alone("decode", package, pipeline),
        "the model alone": lambda: alone("model", package, pipeline),
        "end to end": end_to_end,
    }
    found = in_turns(ways, rounds)
    bound = 1 / (1 / found["decoding alone"].median + 1 / found["the model alone"].median)
    told = {name: Spread.of(each[name] for each in stages) for name in stages[0]}
    return {"images": images, "images_per_s": found, "bound_per_s": bound, "stages": told}


def alone(kind: str, package: Path, pipeline: Path) -> float:
    """Images a second of a process a core."""
    words = [kind, str(package), str(pipeline.with_suffix(".parquet")), str(ALONE_S)]
    command = [sys.executable, "-m", "benchmarks.support.bare_images", *words]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(cores())]
    said = [process.communicate()[0] for process in running]
    if any(process.returncode for process in running):
        raise SystemExit(f"{' '.join(command)}: failed")
    return sum(map(float, said))


def shown(figures: dict[str, Any]) -> list[str]:
    """Lines for people."""
    lines = [f"{figures['images']:,} images", ""]
    lines += [f"  {name:<20}{spread!s:>28} images/s" for name, spread in figures["images_per_s"].items()]
    lines += [f"  {'bound':<20}{figures['bound_per_s']:>28.3g} images/s", ""]
    return lines + [f"  {name:<24}{spread!s:>28} s" for name, spread in figures["stages"].items()]


def judged(figures: dict[str, Any]) -> list[Verdict]:
    """Beside the bound."""
    rate = figures["images_per_s"]["end to end"].median / figures["bound_per_s"]
    return [Verdict("end to end, of the bound", rate, OF_BOUND)]


if __name__ == "__main__":
    sys.exit(main())
