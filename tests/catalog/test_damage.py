"""Damaged files are an error or unreadable rows, never a crash or another's exception."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet as pq
from tests.catalog.reading import OpenCatalog, rows

from embedmill.errors import CatalogError

COUNT = 150
COLUMNS = ["title", "category", "image", "note"]
DATA = pa.table(
    {
        "id": range(COUNT),
        "title": [f"title ü {i}" for i in range(COUNT)],
        "category": pa.array([f"c{i % 5}" for i in range(COUNT)]).dictionary_encode(),
        "image": pa.array([bytes(i % 30) for i in range(COUNT)], pa.binary()),
        "note": pa.array(
            [f"a rather long note {i}" if i % 3 else None for i in range(COUNT)], pa.large_string()
        ),
    }
)


def parquet(compression: str) -> bytes:
    out = pa.BufferOutputStream()
    pq.write_table(DATA, out, row_group_size=60, compression=compression)
    return bytes(out.getvalue())


def arrow(
    open_writer: Callable[..., pa.ipc.RecordBatchStreamWriter], compression: str | None = None
) -> bytes:
    out = pa.BufferOutputStream()
    with open_writer(out, DATA.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(DATA, max_chunksize=60)
    return bytes(out.getvalue())


def text_csv() -> bytes:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["id", *COLUMNS])
    writer.writerows([i, f'a "title" {i}', "c", "x.png", f"two,\nlines {i}"] for i in range(COUNT))
    return out.getvalue().encode()


def text_jsonl() -> bytes:
    return "".join(json.dumps({"id": i, **dict.fromkeys(COLUMNS, "x")}) + "\n" for i in range(COUNT)).encode()


FILES: dict[str, Callable[[], bytes]] = {
    "plain.parquet": lambda: parquet("none"),
    "zstd.parquet": lambda: parquet("zstd"),
    "items.arrow": lambda: arrow(pa.ipc.new_file),
    "items.arrows": lambda: arrow(pa.ipc.new_stream),
    "items.feather": lambda: arrow(pa.ipc.new_file, "lz4"),
    "items.csv": text_csv,
    "items.jsonl": text_jsonl,
    "items.csv.gz": lambda: gzip.compress(text_csv()),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.soak(quick=3, large=100)
def test_flipped_and_missing_bytes_are_an_error_or_fewer_rows(
    name: str, seed: int, tmp_path: Path, catalog: OpenCatalog
) -> None:
    whole, chance = FILES[name](), random.Random(seed)
    (tmp_path / name).write_bytes(whole)
    assert len(rows(catalog(name, COLUMNS))) == COUNT
    errors: list[CatalogError] = []
    for _ in range(40):
        damaged = bytearray(whole)
        for _ in range(chance.choice([1, 1, 2, 5, 30])):
            damaged[chance.randrange(len(damaged))] = chance.choice([0, 255, chance.randrange(256)])
        (tmp_path / name).write_bytes(
            damaged[: chance.choice([len(damaged), chance.randrange(len(damaged))])]
        )
        try:
            rows(catalog(name, COLUMNS, where="category <> 'c1' OR id > '3'" if "csv" in name else None))
        except CatalogError as error:
            errors.append(error)
    assert all("\n" not in str(error) and name in str(error) for error in errors)
