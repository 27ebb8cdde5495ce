"""Pipelines over generated catalogs, and copies of their stores that cost nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from embedmill import Pipeline

ROOT = Path(__file__).resolve().parents[2]
BUILT = ROOT / "build" / "bench"
"""Where benchmarks keep what takes long to make."""
GATES = {"quarantine": 1.0, "empty": 1.0, "churn": 1.0}


def write_pipeline(
    folder: Path,
    *,
    day: int = 0,
    store: str = "./mill",
    model: str = "model",
    columns: Sequence[str] = ("sku", "title", "category", "price"),
    index: Mapping[str, Any] | None = None,
    work: Mapping[str, Any] | None = None,
) -> Path:
    """`day-N.yaml`, over `day-N.parquet`; the first of the columns is the id, the others are shown."""
    spec = {
        "name": "bench",
        "catalog": {"source": f"day-{day}.parquet", "id": columns[0], "display": list(columns[1:])},
        "model": model,
        "store": store,
        "index": dict(index or {}),
        "work": dict(work or {}),
        "gates": GATES,
    }
    file = folder / f"day-{day}.yaml"
    file.write_text(yaml.safe_dump(spec, sort_keys=False))
    return file


def published(folder: Path, *, index: Mapping[str, Any] | None = None) -> Path:
    """Publish a folder's `day-0.parquet`; the pipeline's file."""
    file = write_pipeline(folder, index=index)
    Pipeline.from_file(file).run()
    return file


def linked(source: Path, target: Path) -> None:
    """A copy of a store whose files are links: stores replace files whole, so the source stays as it is."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, copy_function=os.link)
