"""JSON Lines: types are told from a sample, missing keys are null, misfits are unreadable rows."""

from __future__ import annotations

import datetime
import gzip
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.catalog.reading import OpenCatalog, excluded, rows, table, unreadable

from embedmill.catalog import CatalogReader
from embedmill.catalog.base import BATCH_BYTES
from embedmill.catalog.jsonl import SAMPLE_ROWS
from embedmill.errors import CatalogError
from embedmill.spec import CatalogSpec


def write(path: Path, *values: object) -> None:
    path.write_text("".join(json.dumps(value) + "\n" for value in values))


@pytest.fixture
def items(tmp_path: Path) -> Path:
    return tmp_path / "items.jsonl"


def problems(reader: CatalogReader) -> list[tuple[int | None, str]]:
    return [(row.line, row.detail) for row in unreadable(reader)]


TOLD: list[tuple[list[Any], pa.DataType]] = [
    ([1, 2], pa.int64()),
    ([1, 2.5], pa.float64()),
    ([2**63, 1], pa.uint64()),
    ([2**64, 1], pa.string()),
    (["a", "2026-01-31"], pa.string()),
    ([True, None], pa.bool_()),
    ([None, None], pa.string()),
    (["a", 12], pa.string()),
    ([["a"], [], None], pa.list_(pa.string())),
    ([[1, None], [2.5]], pa.list_(pa.float64())),
    ([[], None], pa.list_(pa.string())),
]


@pytest.mark.parametrize(("values", "kind"), TOLD, ids=str)
def test_types_are_told_from_the_values(
    values: list[Any], kind: pa.DataType, items: Path, catalog: OpenCatalog
) -> None:
    write(items, *({"id": i, "x": value} for i, value in enumerate(values)))
    found = table(catalog("items.jsonl", ["x"]))
    assert found.schema.field("x").type == kind
    as_text = kind == pa.string()
    assert found["x"].to_pylist() == [str(v) if as_text and isinstance(v, int) else v for v in values]


def test_a_list_with_a_value_that_does_not_fit_makes_its_row_unreadable(
    items: Path, catalog: OpenCatalog
) -> None:
    lists = [[1], *([[n] for n in range(SAMPLE_ROWS)]), ["x", 1], [], 7, [None, 2], [[1]]]
    write(items, *({"id": i, "x": value} for i, value in enumerate(lists)))
    reader = catalog("items.jsonl", ["x"])
    assert table(reader)["x"].to_pylist()[-2:] == [[], [None, 2]]
    first = SAMPLE_ROWS + 2
    assert problems(reader) == [
        (first, "column 'x': ['x', 1] is not of type list<item: int64>"),
        (first + 2, "column 'x': 7 is not of type list<item: int64>"),
        (first + 4, "column 'x': [[1]] is not of type list<item: int64>"),
    ]


def test_missing_keys_are_null_and_columns_come_in_order(items: Path, catalog: OpenCatalog) -> None:
    write(items, {"id": "a", "y": 1}, {"x": "t", "id": "b"}, {"z": 0})
    assert rows(catalog("items.jsonl", ["x", "y"])) == [
        {"id": "a", "x": None, "y": 1},
        {"id": "b", "x": "t", "y": None},
        {"id": None, "x": None, "y": None},
    ]


def test_values_that_do_not_fit_make_their_row_unreadable_and_not_the_file(
    items: Path, catalog: OpenCatalog
) -> None:
    sample = [{"id": i, "price": 1.5, "title": "a"} for i in range(10_000)]
    late = [
        {"id": "x", "price": 1, "title": "a"},
        {"id": 10_001, "price": "cheap", "title": "a"},
        {"id": 10_002, "price": 2, "title": ["a"]},
        {"id": 10_003, "price": 2, "title": "a"},
        {"id": 1.5, "price": 2, "title": "a"},
        {"id": True, "price": 2, "title": "a"},
        {"id": 2**70, "price": 2, "title": "a"},
        {"id": 10_004.0, "price": "2.5", "title": 7},
    ]
    write(items, *sample, *late)
    reader = catalog("items.jsonl", ["price", "title"])
    assert rows(reader)[10_000:] == [
        {"id": 10_003, "price": 2.0, "title": "a"},
        {"id": 10_004, "price": 2.5, "title": "7"},
    ]
    assert problems(reader) == [
        (10_001, "column 'id': 'x' is not of type int64"),
        (10_002, "column 'price': 'cheap' is not of type double"),
        (10_003, "column 'title': ['a'] is not of type string"),
        (10_005, "column 'id': 1.5 is not of type int64"),
        (10_006, "column 'id': True is not of type int64"),
        (10_007, "column 'id': 1180591620717411303424 is not of type int64"),
    ]


def test_lines_that_do_not_parse_are_unreadable_with_their_number(items: Path, catalog: OpenCatalog) -> None:
    items.write_bytes(
        b'{"id": 1}\n'
        b"\n"
        b'{"id": 2\n'
        b"[1]\n"
        b'{"id": 3, "x": "\xff"}\n'
        b'{"id": 4, "x": "\\ud800"}\n'
        b'{"id": ' + b"9" * 5000 + b"}\n" + b'{"id": 5, "x": ' + b"[" * 200_000 + b"\n"
        b'{"id": 6}'
    )
    reader = catalog("items.jsonl", ["x"], types={"x": "string"})
    assert [row["id"] for row in rows(reader)] == [1, 6]
    found = dict(problems(reader))
    assert list(found) == [3, 4, 5, 6, 7, 8]
    assert found[3] == "not JSON: Expecting ',' delimiter at column 1"
    assert found[4] == "a JSON list, not an object"
    assert found[5] == "not UTF-8 text"


def test_declared_types_win_and_may_name_a_column_that_no_sampled_row_has(
    items: Path, catalog: OpenCatalog
) -> None:
    write(items, {"id": 7, "day": "2026-01-31", "cost": "1.20"}, {"id": "8", "cost": 3}, {"id": 9.5})
    types = {"id": "string", "day": "date", "cost": "decimal(6, 2)", "rare": "bool"}
    reader = catalog("items.jsonl", ["day", "cost", "rare"], types=types)
    assert rows(reader) == [
        {"id": "7", "day": datetime.date(2026, 1, 31), "cost": Decimal("1.20"), "rare": None},
        {"id": "8", "day": None, "cost": Decimal("3.00"), "rare": None},
    ]
    assert problems(reader) == [(3, "column 'id': 9.5 is not of type string")]


def test_a_filter_leaves_rows_out(items: Path, catalog: OpenCatalog) -> None:
    write(items, {"id": 1, "active": True}, {"id": 2, "active": False}, {"id": 3})
    reader = catalog("items.jsonl", where="active = true")
    assert rows(reader) == [{"id": 1}]
    assert excluded(reader) == 2


def test_a_key_that_no_line_has_is_an_absent_column(items: Path, catalog: OpenCatalog) -> None:
    write(items, {"id": 1, "title": "a"})
    with pytest.raises(CatalogError, match=r"no column 'titel' \(did you mean 'title'\? it has: id, title\)"):
        catalog("items.jsonl", ["titel"])


def test_files_may_have_different_keys_but_not_different_types(tmp_path: Path, catalog: OpenCatalog) -> None:
    write(tmp_path / "a.jsonl", {"id": 1})
    write(tmp_path / "b.jsonl", {"id": 2, "x": 1.5})
    write(tmp_path / "c.jsonl", {"id": 3, "x": 1})
    assert rows(catalog("*.jsonl", ["x"])) == [{"id": 1, "x": None}, {"id": 2, "x": 1.5}, {"id": 3, "x": 1.0}]
    write(tmp_path / "d.jsonl", {"id": 4, "x": "a"})
    with pytest.raises(CatalogError, match=r"column 'x' is double in b\.jsonl and string in d\.jsonl"):
        catalog("*.jsonl", ["x"])
    assert [row["id"] for row in rows(catalog("*.jsonl", ["x"], types={"x": "float64"}))] == [1, 2, 3]


def test_an_empty_file_is_an_empty_catalog(items: Path, catalog: OpenCatalog) -> None:
    items.write_bytes(b"\n")
    reader = catalog("items.jsonl", ["title"], types={"id": "int64"})
    assert list(reader.batches()) == []
    assert reader.schema == pa.schema([("id", pa.int64()), ("title", pa.string())])


def test_a_json_array_is_not_json_lines(items: Path, catalog: OpenCatalog) -> None:
    items.write_text(json.dumps([{"id": 1}], indent=1))
    with pytest.raises(CatalogError, match=r"items\.jsonl: no line is a JSON object"):
        catalog("items.jsonl")


def test_a_row_with_an_object_is_told_in_words_of_json(items: Path, catalog: OpenCatalog) -> None:
    write(items, {"id": 1, "x": {"name": "lamp"}}, {"id": 2, "x": None})
    reader = catalog("items.jsonl", ["x"])
    assert rows(reader) == [{"id": 2, "x": None}]
    said = "column 'x': {'name': 'lamp'} is a JSON object, which is not a value of a column"
    assert problems(reader) == [(1, said)]


@pytest.mark.parametrize(("value", "kind"), [([1], "list"), ({"a": 1}, "struct")])
def test_an_id_of_several_values_is_refused(
    value: object, kind: str, items: Path, catalog: OpenCatalog
) -> None:
    write(items, {"id": value})
    with pytest.raises(CatalogError, match=f"the id column 'id' is {kind}"):
        catalog("items.jsonl")


def test_gzip_and_a_byte_order_mark(tmp_path: Path, catalog: OpenCatalog) -> None:
    (tmp_path / "items.ndjson.gz").write_bytes(gzip.compress(b'\xef\xbb\xbf{"id": 1}\n{"id": 2}'))
    assert rows(catalog("items.ndjson.gz")) == [{"id": 1}, {"id": 2}]


def test_batches_are_bounded_in_rows_and_bytes(items: Path, catalog: OpenCatalog) -> None:
    write(items, *({"id": i, "x": "y" * (i % 5000)} for i in range(20_000)))
    batches = [batch.rows for batch in catalog("items.jsonl", ["x"]).batches()]
    assert max(map(len, batches)) <= 8192
    assert max(batch.nbytes for batch in batches) <= BATCH_BYTES
    assert pa.Table.from_batches(batches)["id"].to_pylist() == list(range(20_000))


INTEGERS = st.integers(-(2**63), 2**63 - 1)
COLUMNS = st.one_of(
    *(st.lists(kind | st.none()) for kind in (INTEGERS, st.booleans(), st.text("aé\n\0", max_size=5)))
)


@given(COLUMNS)
def test_what_json_writes_of_one_type_is_read(
    tmp_path_factory: pytest.TempPathFactory, values: list[Any]
) -> None:
    folder = tmp_path_factory.mktemp("jsonl")
    write(folder / "items.jsonl", *({"id": i, "x": value} for i, value in enumerate(values)))
    spec = CatalogSpec(source="items.jsonl", id="id")
    reader = CatalogReader(spec, root=folder, store=None, columns=["x"])
    assert [row["x"] for row in rows(reader)] == values
    assert unreadable(reader) == []
