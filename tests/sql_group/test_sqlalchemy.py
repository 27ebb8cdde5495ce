"""Catalogs by SQLAlchemy's dialects: SQLite's, and PostgreSQL's by psycopg."""

from __future__ import annotations

import sqlite3
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.catalog.reading import OpenCatalog, rows, table, unreadable
from tests.sql_group.conftest import Shop
from tools.seaweedfs import HOST, free_ports

from embedmill.catalog.sql.sqlalchemy import plain, typed_column
from embedmill.errors import CatalogError, CatalogUnavailable, SpecError

SQLITE = "sqlite+pysqlite:///shop.db"


@pytest.fixture
def database(tmp_path: Path) -> sqlite3.Connection:
    return sqlite3.connect(tmp_path / "shop.db", isolation_level=None)


@pytest.fixture
def psycopg_url(shop: Shop) -> str:
    return shop.url.replace("postgresql://", "postgresql+psycopg://")


def test_a_table_and_a_query_are_read(database: sqlite3.Connection, catalog: OpenCatalog) -> None:
    database.execute('CREATE TABLE "all items" (id INTEGER, "say ""it""" TEXT, other BLOB)')
    database.execute("INSERT INTO \"all items\" VALUES (1, 'a', x'00'), (2, null, null)")
    expected = [{"id": 1, 'say "it"': "a"}, {"id": 2, 'say "it"': None}]
    assert rows(catalog(SQLITE, ['say "it"'], table="all items")) == expected
    query = "SELECT * FROM \"all items\" WHERE '%s :x' <> '' -- all; "
    assert rows(catalog(SQLITE, ['say "it"'], query=query)) == expected


def test_a_value_unlike_the_first_ten_thousand_makes_its_row_unreadable(
    database: sqlite3.Connection, catalog: OpenCatalog
) -> None:
    database.execute("CREATE TABLE items (id INTEGER PRIMARY KEY, x)")
    database.execute("BEGIN")
    database.executemany("INSERT INTO items (x) VALUES (?)", [(1,)] * 10_000 + [("late",), (None,), (2.0,)])
    database.execute("COMMIT")
    reader = catalog(SQLITE, ["x"], table="items")
    assert len(rows(reader)) == 10_002, "2.0 is an integer"
    assert [row.detail for row in unreadable(reader)] == ["id 10001: column 'x': 'late' is not of type int64"]
    declared = catalog(SQLITE, ["x"], table="items", types={"x": "string"})
    assert [row["x"] for row in rows(declared)][-3:] == ["late", None, "2"]


PLAIN: list[tuple[list[Any], pa.DataType, list[Any]]] = [
    ([Decimal("12.50"), Decimal("1E+3"), None], pa.string(), ["12.50", "1000", None]),
    ([1, 2.5], pa.float64(), [1.0, 2.5]),
    ([True, None], pa.bool_(), [True, None]),
    ([date(2026, 1, 31)], pa.date32(), [date(2026, 1, 31)]),
    ([datetime(2026, 1, 31, 12)], pa.timestamp("us"), [datetime(2026, 1, 31, 12)]),
    (
        [datetime(2026, 1, 31, 12, tzinfo=UTC)],
        pa.timestamp("us", "UTC"),
        [datetime(2026, 1, 31, 12, tzinfo=UTC)],
    ),
    ([memoryview(b"x"), bytearray(b"y")], pa.binary(), [b"x", b"y"]),
    ([{"ü": [1, Decimal("1.5")]}], pa.string(), ['{"ü": [1, "1.5"]}']),
    ([[1, None], []], pa.list_(pa.int64()), [[1, None], []]),
    (["a", 1, 1.5], pa.string(), ["a", "1", "1.5"]),
]


@pytest.mark.parametrize(("values", "kind", "expected"), PLAIN, ids=[str(values) for values, *_ in PLAIN])
def test_values_of_drivers_become_those_of_arrow(
    values: list[Any], kind: pa.DataType, expected: list[Any]
) -> None:
    from embedmill.catalog.sql.sqlalchemy import _told

    given = [plain(value) for value in values]
    assert _told(given) == kind
    assert typed_column(given, kind).to_pylist() == expected


def test_postgresql_by_psycopg_gives_what_adbc_gives(
    shop: Shop, catalog: OpenCatalog, psycopg_url: str
) -> None:
    shop.do("CREATE TABLE items (id uuid, price numeric(9, 2), tags text[], seen timestamptz, photo bytea)")
    shop.do(
        "INSERT INTO items SELECT gen_random_uuid(), n * 1.5, ARRAY['a', n::text], now(), '\\x00ff' "
        "FROM generate_series(1, 500) n"
    )
    columns = ["price", "tags", "seen", "photo"]
    ours, theirs = (table(catalog(url, columns, table="items")) for url in (psycopg_url, shop.url))
    assert ours.sort_by("id").equals(theirs.sort_by("id"))


def test_rows_come_through_a_cursor_of_the_server(shop: Shop, catalog: OpenCatalog, psycopg_url: str) -> None:
    shop.do("CREATE TABLE items (id int, title text)")
    shop.do("INSERT INTO items SELECT n, repeat('x', 1000) FROM generate_series(1, 100000) n")
    batches = catalog(psycopg_url, ["title"], table="items").batches()
    first = len(next(batches).rows)
    assert shop.ask("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'FETCH FORWARD%'") == 1
    shop.do("DELETE FROM items")
    assert first + sum(len(batch.rows) for batch in batches) == 100_000, "one state is seen"


def test_each_reading_has_a_version_of_its_own(database: sqlite3.Connection, catalog: OpenCatalog) -> None:
    """Nothing tells whether the rows changed."""
    database.execute("CREATE TABLE items (id INTEGER)")
    reader = catalog(SQLITE, table="items")
    before = reader.files
    assert rows(reader) == []
    assert reader.files != before


def test_a_connection_that_is_lost_while_reading_ends_the_reading(
    shop: Shop, catalog: OpenCatalog, psycopg_url: str
) -> None:
    shop.do("CREATE TABLE items (id int, title text)")
    shop.do("INSERT INTO items SELECT n, repeat('x', 2000) FROM generate_series(1, 60000) n")
    batches = catalog(psycopg_url, ["title"], table="items").batches()
    next(batches)
    shop.do("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'FETCH FORWARD%'")
    with pytest.raises(CatalogError, match=r"\(table items\): ") as error:
        list(batches)
    assert "nothing was planned" in error.value.hint


def test_a_wrong_password_is_told_and_never_shown(
    catalog: OpenCatalog, psycopg_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", "wr%ong:s@cret/")
    with pytest.raises(CatalogError, match="password authentication failed") as error:
        catalog(psycopg_url.replace("admin@", "admin:${SHOP_PASSWORD}@"), table="items")
    assert "s@cret" not in str(error.value)


def test_two_columns_of_one_name_are_refused(catalog: OpenCatalog, psycopg_url: str) -> None:
    with pytest.raises(CatalogError, match="two columns are named 'id'"):
        catalog(psycopg_url, query="SELECT 1 AS id, 2 AS id")


def test_mistakes_are_told(
    database: sqlite3.Connection, catalog: OpenCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CatalogError, match="no such table: nix") as mistaken:
        catalog(SQLITE, table="nix")
    assert mistaken.type is CatalogError
    with pytest.raises(SpecError, match="no such dialect"):
        catalog("nix://host/x", table="items")
    with pytest.raises(SpecError, match="driver MySQLdb is not installed"):
        catalog("mysql://host/x", table="items")


@pytest.mark.parametrize("dialect", ["postgresql+psycopg", "mysql+pymysql"])
@pytest.mark.parametrize("host", [HOST, "localhost"])
def test_where_nothing_listens_it_is_asked_again_later(catalog: OpenCatalog, dialect: str, host: str) -> None:
    (port,) = free_ports(1)
    with pytest.raises(CatalogUnavailable, match="refused") as error:
        catalog(f"{dialect}://{host}:{port}/x", table="items")
    assert "run again" in error.value.hint


def test_an_address_that_answered_is_no_server_that_is_away() -> None:
    """`localhost` is two addresses: nothing at one of them says nothing of the other's answer."""
    from sqlalchemy.exc import OperationalError

    from embedmill.catalog.sql.sqlalchemy import _refused

    away = 'connection to server at "::1", port 5432 failed: Connection refused'
    answered = 'connection to server at "127.0.0.1", port 5432 failed: FATAL:  no such user'
    assert _refused(OperationalError("", None, Exception(f"{away}\n\tIs it running?\n{away}")))
    assert not _refused(OperationalError("", None, Exception(f"{away}\n{answered}")))
    assert not _refused(OperationalError("", None, Exception("Connection refused, says a function")))
