"""Parquet and Arrow: every encoding reads alike, memory is bounded, damage is named."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet as pq
from tests.catalog.reading import OpenCatalog, rows, table, unreadable

from embedmill.catalog.base import BATCH_BYTES
from embedmill.errors import CatalogError

Write = Callable[[pa.Table, Path], None]


def write_parquet(data: pa.Table, path: Path) -> None:
    pq.write_table(data, path)


def write_arrow(data: pa.Table, path: Path) -> None:
    with pa.ipc.new_file(str(path), data.schema) as out:
        out.write_table(data)


def write_stream(data: pa.Table, path: Path) -> None:
    with pa.ipc.new_stream(str(path), data.schema) as out:
        out.write_table(data)


def write_compressed(data: pa.Table, path: Path) -> None:
    with pa.ipc.new_file(str(path), data.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as out:
        out.write_table(data)


WRITERS: list[tuple[str, Write]] = [
    ("items.parquet", write_parquet),
    ("items.arrow", write_arrow),
    ("items.arrows", write_stream),
    ("items.feather", write_compressed),
]


@pytest.mark.parametrize(("name", "write"), WRITERS)
def test_id_and_columns_come_in_the_order_asked_for(
    name: str, write: Write, tmp_path: Path, catalog: OpenCatalog
) -> None:
    write(pa.table({"a": [1, 2], "id": ["x", "y"], "b": [0.5, None], "unused": [0, 0]}), tmp_path / name)
    reader = catalog(name, ["b", "id", "a", "b"])
    assert reader.schema == pa.schema([("id", pa.string()), ("b", pa.float64()), ("a", pa.int64())])
    assert rows(reader) == [{"id": "x", "b": 0.5, "a": 1}, {"id": "y", "b": None, "a": 2}]


@pytest.mark.parametrize(("name", "write"), WRITERS)
@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()], ids=str)
@pytest.mark.parametrize("dictionary", [False, True])
def test_texts_and_bytes_read_as_plain_columns_however_encoded(
    name: str, write: Write, kind: pa.DataType, dictionary: bool, tmp_path: Path, catalog: OpenCatalog
) -> None:
    text = pa.array(["é", None, "é", ""], pa.string())
    bytes_kind = {"string": pa.binary(), "large_string": pa.large_binary()}.get(str(kind), pa.binary_view())
    raw = pa.array([b"\xff", b"", None, b"\xff"], pa.binary()).cast(bytes_kind)
    text = text.dictionary_encode() if dictionary else text.cast(kind)
    write(pa.table({"id": [1, 2, 3, 4], "text": text, "raw": raw}), tmp_path / name)
    found = table(catalog(name, ["text", "raw"]))
    assert found.schema.types == [pa.int64(), pa.string(), pa.binary()]
    assert found["text"].to_pylist() == ["é", None, "é", ""]
    assert found["raw"].to_pylist() == [b"\xff", b"", None, b"\xff"]


IDS = [
    *((kind, [1, 2, None]) for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64())),
    *((kind, [1, 2, None]) for kind in (pa.uint8(), pa.uint16(), pa.uint32())),
    (pa.uint64(), [2**64 - 1, None]),
    (pa.string(), ["00123", None]),
    (pa.binary(), [b"\xff\x00", None]),
    (pa.binary(16), [uuid.UUID(int=5).bytes, None]),
    (pa.date32(), [datetime.date(2026, 1, 31), None]),
    (pa.timestamp("us"), [datetime.datetime(2026, 1, 31, 12), None]),
    (pa.timestamp("ms", "UTC"), [datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.UTC), None]),
    (pa.decimal128(10, 2), [Decimal("1.50"), None]),
    (pa.bool_(), [True, False, None]),
    (pa.float64(), [1.5, None]),
]


@pytest.mark.parametrize(("name", "write"), WRITERS[:2])
@pytest.mark.parametrize(("kind", "values"), IDS, ids=lambda value: str(value))
def test_an_id_keeps_its_type_and_value(
    name: str, write: Write, kind: pa.DataType, values: list[object], tmp_path: Path, catalog: OpenCatalog
) -> None:
    write(pa.table({"id": pa.array(values, kind)}), tmp_path / name)
    found = table(catalog(name))
    assert found.schema.field("id").type == kind
    assert found["id"].to_pylist() == values


def test_uuids_read_as_their_sixteen_bytes(tmp_path: Path, catalog: OpenCatalog) -> None:
    one = uuid.uuid5(uuid.NAMESPACE_DNS, "item")
    column = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([one.bytes], pa.binary(16)))
    write_parquet(pa.table({"id": column}), tmp_path / "items.parquet")
    assert rows(catalog("items.parquet")) == [{"id": one.bytes}]


@pytest.mark.parametrize("values", [[[1]], [{"a": 1}]], ids=["list", "struct"])
def test_an_id_of_several_values_is_refused(
    values: list[object], tmp_path: Path, catalog: OpenCatalog
) -> None:
    write_parquet(pa.table({"id": values}), tmp_path / "items.parquet")
    with pytest.raises(CatalogError, match=r"items\.parquet: the id column 'id' is (list|struct)"):
        catalog("items.parquet")


def test_names_with_dots_and_shared_beginnings_are_told_apart(tmp_path: Path, catalog: OpenCatalog) -> None:
    data = pa.table({"a.b": ["dotted"], "a": ["plain"], "id": [1], "id.old": [2]})
    write_parquet(data, tmp_path / "items.parquet")
    assert rows(catalog("items.parquet", ["a", "a.b"])) == [{"id": 1, "a": "plain", "a.b": "dotted"}]


@pytest.mark.parametrize(("name", "write"), WRITERS)
def test_text_that_is_not_utf8_is_an_unreadable_row(
    name: str, write: Write, tmp_path: Path, catalog: OpenCatalog
) -> None:
    broken = pa.array([b"ok", b"\xff\xfe", b"fine", None], pa.binary())
    text = pa.StringArray.from_buffers(4, broken.buffers()[1], broken.buffers()[2], broken.buffers()[0])
    write(pa.table({"id": [1, 2, 3, 4], "text": text}), tmp_path / name)
    reader = catalog(name, ["text"])
    assert [row["id"] for row in rows(reader)] == [1, 3, 4]
    assert [(u.source, u.line, u.detail) for u in unreadable(reader)] == [
        (name, None, "row 2: column 'text' is not UTF-8 text")
    ]


@pytest.mark.parametrize(("name", "write"), WRITERS)
def test_batches_are_bounded_in_rows(name: str, write: Write, tmp_path: Path, catalog: OpenCatalog) -> None:
    write(pa.table({"id": range(20_000)}), tmp_path / name)
    batches = [batch.rows for batch in catalog(name).batches()]
    assert max(len(batch) for batch in batches) <= 8192
    assert pa.Table.from_batches(batches)["id"].to_pylist() == list(range(20_000))


@pytest.mark.parametrize(("name", "write"), WRITERS)
def test_batches_of_images_are_bounded_in_bytes(
    name: str, write: Write, tmp_path: Path, catalog: OpenCatalog
) -> None:
    images = [bytes([i % 256]) * 400_000 for i in range(300)]
    write(pa.table({"id": range(300), "image": pa.array(images, pa.binary())}), tmp_path / name)
    batches = [batch.rows for batch in catalog(name, ["image"]).batches()]
    assert max(batch.nbytes for batch in batches) <= BATCH_BYTES
    assert [row for batch in batches for row in batch["image"].to_pylist()] == images


@pytest.mark.parametrize(("name", "write"), WRITERS[:2])
def test_one_image_of_many_items_is_not_multiplied_in_memory(
    name: str, write: Write, tmp_path: Path, catalog: OpenCatalog
) -> None:
    image = pa.DictionaryArray.from_arrays(
        np.zeros(20_000, np.int32), pa.array([b"x" * 100_000], pa.binary())
    )
    write(pa.table({"id": range(20_000), "image": image}), tmp_path / name)
    before, peak, count = pa.total_allocated_bytes(), 0, 0
    for batch in catalog(name, ["image"]).batches():
        peak = max(peak, pa.total_allocated_bytes() - before)
        count += len(batch.rows)
        assert batch.rows.nbytes <= BATCH_BYTES
    assert count == 20_000
    assert peak < 4 * BATCH_BYTES  # all of them take 2 GB


def test_a_row_group_larger_than_a_batch_is_not_held_whole(tmp_path: Path, catalog: OpenCatalog) -> None:
    noise = np.random.default_rng(0)
    images = pa.array([noise.bytes(200_000) for _ in range(1000)], pa.binary())
    data = pa.table({"id": range(1000), "image": images})
    pq.write_table(data, tmp_path / "items.parquet", use_dictionary=False, write_batch_size=32)
    del images, data
    before, peak = pa.total_allocated_bytes(), 0
    for _ in catalog("items.parquet", ["image"]).batches():
        peak = max(peak, pa.total_allocated_bytes() - before)
    assert peak < 3 * BATCH_BYTES  # the group has 200 MB


@pytest.mark.parametrize(("name", "write"), WRITERS)
def test_no_rows_are_no_batches_and_a_known_schema(
    name: str, write: Write, tmp_path: Path, catalog: OpenCatalog
) -> None:
    write(pa.table({"id": pa.array([], pa.int32()), "title": pa.array([], pa.string())}), tmp_path / name)
    reader = catalog(name, ["title"])
    assert list(reader.batches()) == []
    assert reader.schema.types == [pa.int32(), pa.string()]


@pytest.mark.parametrize(("name", "write"), WRITERS)
@pytest.mark.parametrize("keep", [0, 3, 100, 0.5, 0.99])
def test_a_truncated_file_is_an_error_that_names_it(
    name: str, write: Write, keep: float, tmp_path: Path, catalog: OpenCatalog
) -> None:
    write(pa.table({"id": range(5000), "title": [f"title {i}" for i in range(5000)]}), tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(keep * len(whole)) if keep < 1 else int(keep)])
    with pytest.raises(CatalogError, match=f"^{name}: "):
        rows(catalog(name, ["title"]))


def test_damaged_pages_are_an_error_that_names_the_file(tmp_path: Path, catalog: OpenCatalog) -> None:
    path = tmp_path / "items.parquet"
    data = pa.table({"id": range(5000), "title": [f"title {i}" for i in range(5000)]})
    pq.write_table(data, path, compression="zstd", write_page_checksum=True)
    damaged = bytearray(path.read_bytes())
    damaged[200:300] = bytes(100)
    path.write_bytes(damaged)
    with pytest.raises(CatalogError, match=r"^items\.parquet: cannot be read as Parquet: "):
        rows(catalog("items.parquet", ["title"]))


def test_types_are_not_for_files_that_have_types(tmp_path: Path, catalog: OpenCatalog) -> None:
    write_parquet(pa.table({"id": [1]}), tmp_path / "items.parquet")
    with pytest.raises(Exception, match=r"catalog\.types is for CSV, JSONL and databases"):
        catalog("items.parquet", types={"id": "string"})
