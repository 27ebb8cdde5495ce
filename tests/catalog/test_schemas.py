"""Several files as one catalog: what widens, and what is a disagreement."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet as pq
from tests.catalog.reading import OpenCatalog, rows, table, unreadable

from embedmill.errors import CatalogError


def write(folder: Path, **files: dict[str, Any]) -> None:
    for name, columns in files.items():
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")


WIDENING = [
    (pa.array([1], pa.int8()), pa.array([1000], pa.int32()), pa.int32()),
    (pa.array([1], pa.uint8()), pa.array([-1], pa.int8()), pa.int16()),
    (pa.array([1], pa.int32()), pa.array([1.5]), pa.float64()),
    (pa.array(["a"]).dictionary_encode(), pa.array(["b"]), pa.string()),
    (pa.array(["a"], pa.large_string()), pa.array(["b"]), pa.string()),
    (pa.nulls(1), pa.array([5], pa.int16()), pa.int16()),
    (pa.array(["a"]), pa.nulls(1), pa.string()),
    (pa.nulls(1), pa.nulls(1), pa.string()),
    (pa.array([1], pa.timestamp("s")), pa.array([5], pa.timestamp("us")), pa.timestamp("us")),
]


@pytest.mark.parametrize(
    ("one", "other", "together"), WIDENING, ids=lambda value: str(getattr(value, "type", value))
)
def test_types_that_go_together_widen(
    one: pa.Array, other: pa.Array, together: pa.DataType, tmp_path: Path, catalog: OpenCatalog
) -> None:
    write(tmp_path, a={"id": ["1"], "x": one}, b={"id": ["2"], "x": other})
    found = table(catalog("*.parquet", ["x"]))
    assert found.schema.field("x").type == together
    assert found["x"].to_pylist() == [
        *plain(one).cast(together).to_pylist(),
        *plain(other).cast(together).to_pylist(),
    ]


def plain(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if isinstance(column, pa.DictionaryArray) else column


DISAGREEING = [
    (pa.array([1]), pa.array(["1"])),
    (pa.array([True]), pa.array([1])),
    (pa.array(["a"]), pa.array([b"a"])),
    (pa.array([1], pa.date32()), pa.array(["2026-01-31"])),
    (pa.array([[1]]), pa.array([1])),
    (pa.array([1], pa.timestamp("s")), pa.array([1], pa.timestamp("s", "UTC"))),
]


@pytest.mark.parametrize(("one", "other"), DISAGREEING, ids=lambda value: str(value.type))
def test_types_that_do_not_go_together_name_both_files_and_the_column(
    one: pa.Array, other: pa.Array, tmp_path: Path, catalog: OpenCatalog
) -> None:
    write(tmp_path, a={"id": [1], "x": one}, b={"id": [2], "x": other})
    with pytest.raises(CatalogError, match=r"column 'x' is .+ in a\.parquet and .+ in b\.parquet"):
        catalog("*.parquet", ["x"])


def test_integer_ids_do_not_become_floats(tmp_path: Path, catalog: OpenCatalog) -> None:
    write(tmp_path, a={"id": [1]}, b={"id": [2.0]})
    with pytest.raises(CatalogError, match=r"'id' is int64 in a\.parquet and double in b\.parquet"):
        catalog("*.parquet")


def test_integer_ids_widen(tmp_path: Path, catalog: OpenCatalog) -> None:
    write(tmp_path, a={"id": pa.array([1], pa.int32())}, b={"id": [2**40]})
    assert [row["id"] for row in rows(catalog("*.parquet"))] == [1, 2**40]


def test_a_number_that_would_lose_digits_by_widening_is_unreadable(
    tmp_path: Path, catalog: OpenCatalog
) -> None:
    write(tmp_path, a={"id": [1, 2], "x": [2**53 + 1, 7]}, b={"id": [3], "x": [0.5]})
    reader = catalog("*.parquet", ["x"])
    assert [row["id"] for row in rows(reader)] == [2, 3]
    assert [row.detail for row in unreadable(reader)] == ["row 1: column 'x' is not a value of type double"]


def test_a_column_in_one_file_only_is_an_error_that_names_both(tmp_path: Path, catalog: OpenCatalog) -> None:
    write(tmp_path, a={"id": [1], "x": [1]}, b={"id": [2]})
    with pytest.raises(CatalogError, match=r"column 'x' is in a\.parquet, but not in b\.parquet"):
        catalog("*.parquet", ["x"])


def test_other_columns_may_differ(tmp_path: Path, catalog: OpenCatalog) -> None:
    write(tmp_path, a={"id": [1], "x": [1], "y": ["a"]}, b={"y": [2], "x": [2], "id": [2]})
    assert rows(catalog("*.parquet", ["x"])) == [{"id": 1, "x": 1}, {"id": 2, "x": 2}]


def test_an_absent_column_is_an_error_with_the_closest_name_and_all_names(
    tmp_path: Path, catalog: OpenCatalog
) -> None:
    write(tmp_path, a={"id": [1], "title": ["a"], "price": [1]})
    with pytest.raises(CatalogError, match=r"a\.parquet: no column 'titel'") as caught:
        catalog("a.parquet", ["titel"])
    assert caught.value.hint == "did you mean 'title'? it has: id, title, price"
    with pytest.raises(CatalogError) as caught:
        catalog("a.parquet", ["PRICE"])
    assert caught.value.hint == "did you mean 'price'? it has: id, title, price"


def test_an_absent_id_or_filter_column_is_named(tmp_path: Path, catalog: OpenCatalog) -> None:
    write(tmp_path, a={"sku": [1]})
    with pytest.raises(CatalogError, match=r"no column 'id', which catalog\.id names"):
        catalog("a.parquet")
    with pytest.raises(CatalogError, match=r"no column 'active', which catalog\.where names"):
        catalog("a.parquet", id="sku", where="active = true")


def test_a_doubled_column_is_an_error(tmp_path: Path, catalog: OpenCatalog) -> None:
    pq.write_table(
        pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["id", "id"]), tmp_path / "a.parquet"
    )
    with pytest.raises(CatalogError, match=r"a\.parquet: 2 columns are named 'id'"):
        catalog("a.parquet")
