"""Catalogs in SQLite files, whose columns may have values of any type."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.catalog.reading import OpenCatalog, rows, table, unreadable

from embedmill.errors import CatalogError

URL = "sqlite:///shop.db"


@pytest.fixture
def database(tmp_path: Path) -> sqlite3.Connection:
    return sqlite3.connect(tmp_path / "shop.db", isolation_level=None)


def fill(database: sqlite3.Connection, values: list[Any], kind: str = "") -> None:
    database.execute(f"CREATE TABLE items (id INTEGER PRIMARY KEY, x {kind})")
    database.execute("BEGIN")
    database.executemany("INSERT INTO items (x) VALUES (?)", [(value,) for value in values])
    database.execute("COMMIT")


VALUES: list[tuple[list[Any], pa.DataType, list[Any]]] = [
    ([1, None, -(2**63)], pa.int64(), [1, None, -(2**63)]),
    ([1, 1.5], pa.float64(), [1.0, 1.5]),
    (["Grüße 🍎", "", None], pa.string(), ["Grüße 🍎", "", None]),
    (["a\0b"], pa.string(), ["a\0b"]),
    ([b"\x00\xff", None], pa.binary(), [b"\x00\xff", None]),
    (["n/a", 5, 1.5], pa.string(), ["n/a", "5", "1.5"]),
    ([None, None], pa.string(), [None, None]),
    ([], pa.string(), []),
]


@pytest.mark.parametrize(("values", "kind", "expected"), VALUES, ids=[str(values) for values, *_ in VALUES])
def test_the_values_tell_a_columns_type(
    database: sqlite3.Connection,
    catalog: OpenCatalog,
    values: list[Any],
    kind: pa.DataType,
    expected: list[Any],
) -> None:
    fill(database, values)
    column = table(catalog(URL, ["x"], table="items")).column("x")
    assert column.type == kind
    assert column.to_pylist() == expected


def test_a_type_may_show_late(database: sqlite3.Connection, catalog: OpenCatalog) -> None:
    fill(database, [*[None] * 5000, "late", *[None] * 5000])
    reader = catalog(URL, ["x"], table="items")
    assert [row["x"] for row in rows(reader) if row["x"] is not None] == ["late"]


@pytest.mark.parametrize(
    ("first", "late", "said"),
    [
        (1, "text", "is no integer"),
        (1.5, "text", "is no number"),
        ("x", b"blob", "is no text"),
        (b"b", 1, "is no blob"),
    ],
)
def test_a_value_unlike_the_first_ten_thousand_makes_its_row_unreadable(
    database: sqlite3.Connection, catalog: OpenCatalog, first: Any, late: Any, said: str
) -> None:
    fill(database, [*[first] * 10_000, late, first])
    reader = catalog(URL, ["x"], table="items")
    assert len(rows(reader)) == 10_001
    assert [row.detail for row in unreadable(reader)] == [f"id 10001: column 'x' {said}"]


def test_declared_types_win_over_what_the_first_rows_tell(
    database: sqlite3.Connection, catalog: OpenCatalog
) -> None:
    fill(database, [*[1] * 10_000, 1.5])
    found = rows(catalog(URL, ["x"], table="items", types={"x": "float64"}))
    assert found[-1]["x"] == 1.5


def test_columns_of_text_are_cast_to_declared_types(
    database: sqlite3.Connection, catalog: OpenCatalog
) -> None:
    fill(database, ["1.5", "", "x", "2026"], "TEXT")
    reader = catalog(URL, ["x"], table="items", types={"x": "float64"})
    assert [row["x"] for row in rows(reader)] == [1.5, 2026.0]
    assert [row.detail for row in unreadable(reader)] == [
        f"id {number}: column 'x' is not a value of type double" for number in (2, 3)
    ]


def test_text_that_is_not_utf8_costs_its_row(database: sqlite3.Connection, catalog: OpenCatalog) -> None:
    fill(database, ["good"])
    database.execute("INSERT INTO items (x) VALUES (CAST(x'ff41' AS TEXT))")
    reader = catalog(URL, ["x"], table="items")
    assert [row["x"] for row in rows(reader)] == ["good"]
    assert [row.detail for row in unreadable(reader)] == ["id 2: column 'x' is not UTF-8 text"]


def test_a_query_and_a_view_are_read_as_a_table_is(
    database: sqlite3.Connection, catalog: OpenCatalog
) -> None:
    fill(database, ["a", "b"])
    database.execute("CREATE VIEW shown AS SELECT id, upper(x) AS title FROM items")
    for spec in ({"table": "shown"}, {"query": "SELECT id, upper(x) AS title FROM items; "}):
        assert [row["title"] for row in rows(catalog(URL, ["title"], **spec))] == ["A", "B"]


def test_a_file_is_only_read(database: sqlite3.Connection, catalog: OpenCatalog, tmp_path: Path) -> None:
    fill(database, ["a"])
    database.close()
    (tmp_path / "shop.db").chmod(0o444)
    before = (tmp_path / "shop.db").read_bytes()
    reader = catalog(URL, ["x"], table="items")
    assert len(rows(reader)) == 1
    assert (tmp_path / "shop.db").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["shop.db"]


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_the_version_changes_with_a_write_and_only_then(
    database: sqlite3.Connection, catalog: OpenCatalog, mode: str
) -> None:
    database.execute(f"PRAGMA journal_mode = {mode}")
    fill(database, ["a"])
    reader = catalog(URL, ["x"], table="items")
    before = reader.files
    assert len(rows(reader)) == 1
    assert reader.files == before == catalog(URL, ["x"], table="items").files
    database.execute("INSERT INTO items (x) VALUES ('b')")
    assert catalog(URL, ["x"], table="items").files != before


def test_a_reading_sees_one_state_whatever_is_written_meanwhile(
    database: sqlite3.Connection, catalog: OpenCatalog, tmp_path: Path
) -> None:
    """The writer is another process: SQLite's locks are a process's."""
    database.execute("PRAGMA journal_mode = wal")
    fill(database, ["x" * 500] * 30_000)
    database.close()
    batches = catalog(URL, ["x"], table="items").batches()
    first = len(next(batches).rows)
    delete = "import sqlite3; c = sqlite3.connect('shop.db'); c.execute('DELETE FROM items'); c.commit()"
    subprocess.run([sys.executable, "-c", delete], cwd=tmp_path, check=True)
    assert first + sum(len(batch.rows) for batch in batches) == 30_000


def test_a_file_in_another_folder_has_four_slashes(catalog: OpenCatalog, tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.mktemp("100% #1?")
    fill(sqlite3.connect(folder / "a b.db", isolation_level=None), ["a"])
    url = f"sqlite:///{folder}/a b.db".replace("%", "%25").replace("?", "%3F")
    assert len(rows(catalog(url, ["x"], table="items"))) == 1


MISTAKES = [
    ("sqlite:///nix.db", {"table": "items"}, "there is no file", "relative to the spec's folder"),
    (URL, {"table": "nix"}, "no such table: nix", "catalog.table"),
    (URL, {"query": "SELEC 1"}, "syntax error", "catalog.query"),
    (URL, {"table": "items"}, "no column 'y'", "did you mean"),
]


@pytest.mark.parametrize(("url", "spec", "said", "hint"), MISTAKES, ids=[said for *_, said, _ in MISTAKES])
def test_a_mistake_is_told_with_what_to_correct(
    database: sqlite3.Connection, catalog: OpenCatalog, url: str, spec: dict[str, str], said: str, hint: str
) -> None:
    fill(database, ["a"])
    with pytest.raises(CatalogError) as error:
        catalog(url, ["y"], **spec)
    assert said in error.value.message
    assert hint in error.value.hint or hint == "did you mean"


def test_a_file_that_is_no_database_is_told(catalog: OpenCatalog, tmp_path: Path) -> None:
    (tmp_path / "shop.db").write_bytes(b"no database" * 1000)
    with pytest.raises(CatalogError, match="not a database"):
        catalog(URL, table="items")


def test_a_damaged_file_ends_the_reading(
    database: sqlite3.Connection, catalog: OpenCatalog, tmp_path: Path
) -> None:
    fill(database, ["x" * 3000] * 5000)
    database.close()
    reader = catalog(URL, ["x"], table="items")
    file = tmp_path / "shop.db"
    content = bytearray(file.read_bytes())
    content[8_000_000 : 8_000_000 + 40_960] = b"\xff" * 40_960
    file.write_bytes(content)
    with pytest.raises(CatalogError, match="malformed"):
        rows(reader)
