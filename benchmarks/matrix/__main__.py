"""The runtime matrix: rows are real models, columns runtimes, cells what each makes of the same items.

    make matrix

A cell has the lowest cosine between its vectors and the reference's, the rows a second as a multiple of the
reference's, and the peak RSS of its process in MiB. Each cell is a process in the environment of its library,
one after the other; speed is the median of three passes. Everything lies in build/matrix. Ends with 1 where a
float32 cosine is below 0.9999.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from benchmarks.support.measuring import machine
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
LOWEST_COSINE = 0.9999
ENVIRONMENTS = {
    "onnx": "torch",
    "openvino": "convert",
    "torch": "torch",
    "tensorflow": "tensorflow",
    "tensorflow, XLA": "tensorflow",
    "triton": "triton",
}
"""Column → the environment that it is computed in."""


@dataclass(frozen=True)
class Model:
    """A row: its package, its encoder, and the columns that apply; the first is the reference."""

    name: str
    package: str
    prepared_in: str
    columns: tuple[str, ...]
    encoder: str = "item"


MODELS = (
    Model("MiniLM", "minilm", "torch", ("onnx", "openvino", "torch", "triton")),
    Model("EfficientNet-Lite0", "efficientnet", "torch", ("onnx", "openvino", "torch")),
    Model("two towers, items", "towers", "tensorflow", ("tensorflow",)),
    Model(
        "two towers, pictures",
        "towers",
        "tensorflow",
        ("tensorflow", "tensorflow, XLA", "openvino"),
        encoder="query_image",
    ),
)


def main() -> int:
    """Prepare, measure, show."""
    parser = argparse.ArgumentParser(description="Compare runtimes on real models.")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "matrix")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--markdown", action="store_true", help="print a table for a page")
    options = parser.parse_args()
    folder: Path = options.folder.resolve()
    cells = [cell for model in MODELS for cell in measured(model, folder)]
    if options.json:
        print(json.dumps({"schema": "bench-matrix/1", "machine": machine(), "cells": cells}))
    elif options.markdown:
        print(markdown(cells))
    else:
        show(cells)
    return 0 if all(cell["lowest_cosine"] >= LOWEST_COSINE for cell in cells) else 1


def measured(model: Model, folder: Path) -> list[dict[str, Any]]:
    """A document for each column of a model."""
    package = folder / model.package
    if not (package / "ready").is_file():
        say(f"{model.name}: preparing")
        run_in(model.prepared_in, "benchmarks.matrix.prepare", model.package, str(package))
    reference: dict[str, Any] | None = None
    stored: npt.NDArray[np.float32] | None = None
    cells = []
    for column in model.columns:
        say(f"{model.name}: {column}")
        out = package / f"{model.encoder}.{column.replace(', ', '-')}"
        run_in(ENVIRONMENTS[column], "benchmarks.matrix.cell", str(package), model.encoder, column, str(out))
        found = json.loads(out.with_suffix(".json").read_text())
        vectors = np.load(out.with_suffix(".npy"))
        reference, stored = reference or found, vectors if stored is None else stored
        cells.append(
            {
                "model": model.name,
                "runtime": column,
                "version": found["version"],
                "rows": len(vectors),
                "lowest_cosine": lowest_cosine(vectors, stored),
                "speed": found["rows_per_second"] / reference["rows_per_second"],
                "peak_rss_mib": found["peak_rss_mib"],
            }
        )
    return cells


def lowest_cosine(left: npt.NDArray[np.float32], right: npt.NDArray[np.float32]) -> float:
    """Between rows of the same number."""
    a, b = left.astype(np.float64), right.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(axis=1) / norms).min())


def run_in(environment: str, module: str, *arguments: str) -> None:
    """Run a module of this repository with the Python of an environment.

    Raises:
        SystemExit: It failed; it has said why.
    """
    python = ROOT / ".venv" / environment / "bin" / "python"
    path = os.pathsep.join([str(ROOT), str(ROOT / "src"), str(ROOT / "examples" / "demo")])
    done = subprocess.run(
        [str(python), "-m", module, *arguments], check=False, cwd=ROOT, env=os.environ | {"PYTHONPATH": path}
    )
    if done.returncode:
        sys.exit(f"{module} {' '.join(arguments)}: exit code {done.returncode}")


def say(doing: str) -> None:
    """On stderr: what is being done."""
    print(doing, file=sys.stderr, flush=True)


def in_words(cell: dict[str, Any]) -> tuple[str, str, str, str, str]:
    """A cell as columns of a table."""
    speed = "1 (reference)" if cell["speed"] == 1.0 else f"{cell['speed']:.2f}"
    runtime = f"{cell['runtime']} {cell['version']}"
    return cell["model"], runtime, f"{cell['lowest_cosine']:.7f}", speed, f"{cell['peak_rss_mib']:,.0f}"


HEADS = ("model", "runtime", "lowest cosine", "speed", "peak RSS, MiB")


def show(cells: Sequence[dict[str, Any]]) -> None:
    """For the terminal."""
    table = Table(*HEADS)
    for cell in cells:
        table.add_row(*in_words(cell))
    console = Console()
    console.print(machine())
    console.print(table)


def markdown(cells: Sequence[dict[str, Any]]) -> str:
    """For docs/benchmarks.md."""
    lines = [HEADS, ("---",) * len(HEADS), *map(in_words, cells)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
