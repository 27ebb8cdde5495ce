"""Damaged files are an error or unreadable rows, never a crash or another's exception."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import zipfile
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


def zipped(content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("items.csv", content)
    return out.getvalue()


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


DISGUISED: list[tuple[str, bytes, str, str]] = [
    ("items.csv", gzip.compress(text_csv()), "gzipped", "name it items.csv.gz"),
    ("items.jsonl", gzip.compress(text_jsonl()), "gzipped", "name it items.jsonl.gz"),
    ("items.csv", zipped(text_csv()), "a ZIP archive or a spreadsheet", "unpack it"),
    ("items.csv", parquet("zstd"), "Parquet", "name it items.parquet"),
    ("items.tsv.gz", parquet("zstd"), "Parquet", "name it items.parquet"),
    ("items.jsonl", arrow(pa.ipc.new_file), "Arrow", "name it items.arrow"),
]


@pytest.mark.parametrize(("name", "content", "what", "hint"), DISGUISED)
def test_a_file_of_another_format_than_its_name_says_what_it_is_and_how_to_name_it(
    catalog: OpenCatalog, tmp_path: Path, name: str, content: bytes, what: str, hint: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CatalogError) as caught:
        catalog(name, ["title"])
    assert caught.value.message.startswith(f"{name}: by its bytes it is {what}, ")
    assert hint in caught.value.hint


def test_a_text_that_only_begins_like_another_format_is_read(catalog: OpenCatalog, tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("PAR1,id\na,1\n")
    assert rows(catalog("items.csv", ["PAR1"])) == [{"id": "1", "PAR1": "a"}]
    (tmp_path / "pk.csv").write_text("PK,id\na,1\n")
    assert rows(catalog("pk.csv", ["PK"])) == [{"id": "1", "PK": "a"}]
