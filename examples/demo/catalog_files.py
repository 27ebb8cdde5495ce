"""The demo's catalog on disk: a folder of Parquet files, and beside them the items that are not in it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from emoji_items import Item

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("name", pa.string()),
        ("other_name", pa.string()),
        ("category", pa.string()),
        ("subcategory", pa.string()),
        ("skin_tone", pa.bool_()),
        ("base", pa.string()),
        ("image", pa.binary()),
    ]
)


def part_files(folder: Path) -> list[Path]:
    """The catalog's files, in order."""
    return sorted(folder.glob("part-*.parquet"))


def held_back_file(folder: Path) -> Path:
    """Where the items lie that are not in the catalog; below it, so that `*.parquet` does not see them."""
    return folder / "held-back" / "items.parquet"


def read_items(files: Sequence[Path]) -> list[Item]:
    """All rows of some files, in order."""
    return [Item(**row) for file in files for row in pq.read_table(file).to_pylist()]


def write_items(file: Path, items: Sequence[Item]) -> None:
    """Write one file; a reader sees the old one or the new one, never a half."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".{file.name}.tmp")
    pq.write_table(pa.Table.from_pylist([asdict(item) for item in items], schema=SCHEMA), unfinished)
    os.replace(unfinished, file)  # noqa: PTH105 - the atomic rename is the point


def write_parts(folder: Path, items: Sequence[Item], parts: int) -> list[Path]:
    """Write the catalog as `parts` files of equal length, in order of id."""
    ordered = sorted(items, key=lambda item: item.id)
    bounds = [len(ordered) * part // parts for part in range(parts + 1)]
    files = [folder / f"part-{part}.parquet" for part in range(parts)]
    for file, start, stop in zip(files, bounds, bounds[1:], strict=False):
        write_items(file, ordered[start:stop])
    return files
