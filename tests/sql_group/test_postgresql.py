"""Catalogs in a real PostgreSQL: what a row becomes, what is not read, and what goes wrong."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.catalog.reading import OpenCatalog, excluded, rows, table, unreadable
from tests.sql_group.cluster import PASSWORD
from tests.sql_group.conftest import Shop
from tools.seaweedfs import HOST, free_ports

from embedmill.errors import CatalogError, CatalogUnavailable, SpecError

TYPES: list[tuple[str, pa.DataType, Any]] = [
    ("7::smallint", pa.int16(), 7),
    ("7::integer", pa.int32(), 7),
    ("9007199254740993::bigint", pa.int64(), 9007199254740993),
    ("1.5::real", pa.float32(), 1.5),
    ("'NaN'::double precision", pa.float64(), pytest.approx(float("nan"), nan_ok=True)),
    ("12.340::numeric", pa.string(), "12.340"),
    ("12345678901234567890123.4567::numeric", pa.string(), "12345678901234567890123.4567"),
    ("'NaN'::numeric", pa.string(), "NaN"),
    ("12.5::money", pa.string(), "$12.50"),
    ("4294967295::oid", pa.string(), "4294967295"),
    ("true", pa.bool_(), True),
    ("'Grüße 🍎'::text", pa.string(), "Grüße 🍎"),
    ("''::varchar(9)", pa.string(), ""),
    ("'a'::char(3)", pa.string(), "a"),
    ("'\\x00ff'::bytea", pa.binary(), b"\x00\xff"),
    ("date '2026-01-31'", pa.date32(), date(2026, 1, 31)),
    ("timestamp '2026-01-31 12:00:00.000001'", pa.timestamp("us"), datetime(2026, 1, 31, 12, 0, 0, 1)),
    (
        "timestamptz '2026-01-31 12:00:00+02'",
        pa.timestamp("us", "UTC"),
        datetime(2026, 1, 31, 10, tzinfo=UTC),
    ),
    ("time '12:00'", pa.string(), "12:00:00"),
    ("interval '1 day'", pa.string(), "1 day"),
    ("""'{"b": 1, "a": null}'::json""", pa.string(), '{"b": 1, "a": null}'),
    ("""'{"b": 1, "a": null}'::jsonb""", pa.string(), '{"a": null, "b": 1}'),
    (
        "'6fa459ea-ee8a-3ca4-894e-db77e160355e'::uuid",
        pa.string(),
        "6fa459ea-ee8a-3ca4-894e-db77e160355e",
    ),
    ("'10.0.0.0/8'::cidr", pa.string(), "10.0.0.0/8"),
    ("int4range(1, 3)", pa.string(), "[1,3)"),
    ("ROW(1, 'x')", pa.string(), "(1,x)"),
    ("array[1, null, 3]", pa.list_(pa.int32()), [1, None, 3]),
    ("array['x', '']", pa.list_(pa.string()), ["x", ""]),
    ("array[1.50, 2]", pa.list_(pa.string()), ["1.50", "2"]),
    ("array[date '2026-01-31']", pa.list_(pa.string()), ["2026-01-31"]),
    ("array['\\x00ff'::bytea]", pa.list_(pa.binary()), [b"\x00\xff"]),
    ("null", pa.string(), None),
]


@pytest.mark.parametrize(("value", "kind", "expected"), TYPES, ids=[value for value, *_ in TYPES])
def test_a_value_keeps_its_type_or_becomes_exact_text(
    shop: Shop, catalog: OpenCatalog, value: str, kind: pa.DataType, expected: Any
) -> None:
    reader = catalog(shop.url, ["x"], query=f"SELECT 1 AS id, {value} AS x")
    found = table(reader).column("x")
    assert found.type == kind
    assert found.to_pylist() == [expected]


def test_an_enum_is_its_label(shop: Shop, catalog: OpenCatalog) -> None:
    shop.do("CREATE TYPE size AS ENUM ('small', 'large')")
    shop.do("CREATE TABLE items (id int, size size, sizes size[])")
    shop.do("INSERT INTO items VALUES (1, 'large', ARRAY['small', 'large']::size[])")
    assert rows(catalog(shop.url, ["size"], table="items")) == [{"id": 1, "size": "large"}]


UNREADABLE = [
    ("timestamp 'infinity'", "column 'x' is not in the years 1 to 9999"),
    ("timestamptz '-infinity'", "column 'x' is not in the years 1 to 9999"),
    ("timestamp '10000-01-01'", "column 'x' is not in the years 1 to 9999"),
    ("date '0001-12-31 BC'", "column 'x' is not in the years 1 to 9999"),
    ("array[[1, 2], [3, 4]]", "column 'x' is an array of more than one dimension"),
]


@pytest.mark.parametrize(("value", "said"), UNREADABLE, ids=[value for value, _ in UNREADABLE])
def test_a_row_with_a_value_that_arrow_has_not_is_unreadable_and_the_rest_is_read(
    shop: Shop, catalog: OpenCatalog, value: str, said: str
) -> None:
    query = f"SELECT 'good' AS id, null AS x UNION ALL SELECT 'bad', {value}"
    reader = catalog(shop.url, ["x"], query=query)
    assert [row["id"] for row in rows(reader)] == ["good"]
    assert [row.detail for row in unreadable(reader)] == [f"id 'bad': {said}"]


def test_text_that_is_not_utf8_costs_its_row_in_a_database_without_an_encoding(
    shop: Shop, catalog: OpenCatalog
) -> None:
    shop.do("CREATE DATABASE ascii ENCODING 'SQL_ASCII' TEMPLATE template0")
    with shop.cluster.connect("ascii") as connection:
        connection.execute("CREATE TABLE items (id int, x text)")
        connection.execute(r"INSERT INTO items VALUES (1, E'\xff'), (2, 'ok')")
    reader = catalog(shop.cluster.url("ascii"), ["x"], table="items")
    assert rows(reader) == [{"id": 2, "x": "ok"}]
    assert [row.detail for row in unreadable(reader)] == ["id 1: column 'x' is not UTF-8 text"]


def test_only_the_columns_that_are_used_are_read(shop: Shop, catalog: OpenCatalog) -> None:
    """The other one cannot even be computed."""
    shop.do("CREATE TABLE numbers (id int, zero int)")
    shop.do("INSERT INTO numbers VALUES (1, 0)")
    shop.do("CREATE VIEW items AS SELECT id, 'x'::text AS title, 1 / zero AS broken FROM numbers")
    assert rows(catalog(shop.url, ["title"], table="items")) == [{"id": 1, "title": "x"}]
    with pytest.raises(CatalogError, match="division by zero"):
        rows(catalog(shop.url, ["broken"], table="items"))


def test_names_are_taken_as_they_are_written(shop: Shop, catalog: OpenCatalog) -> None:
    shop.do('CREATE SCHEMA "My Shop"')
    shop.do('CREATE TABLE "My Shop"."Items" (id int, "say ""it""" text, "select" text)')
    shop.do("""INSERT INTO "My Shop"."Items" VALUES (1, 'a', 'b')""")
    found = rows(catalog(shop.url, ['say "it"', "select"], table="My Shop.Items"))
    assert found == [{"id": 1, 'say "it"': "a", "select": "b"}]


@pytest.mark.parametrize("end", ["", ";", " -- the end", "\n"])
def test_a_query_may_end_as_queries_do(shop: Shop, catalog: OpenCatalog, end: str) -> None:
    query = f"WITH all_ AS (SELECT 1 AS id) SELECT id, ':x %s' AS title FROM all_{end}"  # noqa: S608
    assert rows(catalog(shop.url, ["title"], query=query)) == [{"id": 1, "title": ":x %s"}]


WHERE = [
    "n > 1",
    "n <> 2 OR t = 'x'",
    "t IS NULL",
    "p > 9",
    "act",
    "NOT act AND n < 3",
    "d >= DATE '2026-01-02'",
]


@pytest.mark.parametrize("where", WHERE)
def test_where_means_what_it_means_for_files(
    shop: Shop, catalog: OpenCatalog, tmp_path: Any, where: str
) -> None:
    shop.do("CREATE TABLE items (id text, n int, t text, p numeric, act bool, d date)")
    shop.do(
        "INSERT INTO items VALUES ('a', 1, 'x', 10, true, '2026-01-01'), ('b', 2, null, 9.5, false, null), "
        "('c', null, 'X', null, null, '2026-01-02'), ('d', 3, '', 100, true, '2026-01-03')"
    )
    everything = ["n", "t", "p", "act", "d"]
    pq.write_table(table(catalog(shop.url, everything, table="items")), tmp_path / "items.parquet")
    ours, files = (
        catalog(shop.url, ["t"], table="items", where=where),
        catalog("items.parquet", ["t"], where=where),
    )
    assert rows(ours) == rows(files)
    assert excluded(ours) == excluded(files)


def test_declared_types_are_cast_to(shop: Shop, catalog: OpenCatalog) -> None:
    query = "SELECT 1 AS id, 12.50::numeric AS price UNION ALL SELECT 2, 'NaN'"
    reader = catalog(shop.url, ["price"], query=query, types={"price": "decimal(6, 2)"})
    assert [str(row["price"]) for row in rows(reader)] == ["12.50"]
    assert [row.detail for row in unreadable(reader)] == [
        "id 2: column 'price' is not a value of type decimal128(6, 2)"
    ]


def test_a_reading_sees_one_state_whatever_is_written_meanwhile(shop: Shop, catalog: OpenCatalog) -> None:
    shop.do("CREATE TABLE items (id int, title text)")
    shop.do("INSERT INTO items SELECT n, repeat('x', 500) FROM generate_series(1, 100000) n")
    batches = catalog(shop.url, ["title"], table="items").batches()
    first = len(next(batches).rows)
    shop.do("DELETE FROM items WHERE id % 2 = 0; INSERT INTO items VALUES (-1, 'late')")
    assert first + sum(len(batch.rows) for batch in batches) == 100_000


def test_the_version_changes_with_a_commit_and_only_then(shop: Shop, catalog: OpenCatalog) -> None:
    shop.do("CREATE TABLE items (id int, title text); INSERT INTO items VALUES (1, 'a')")
    reader = catalog(shop.url, ["title"], table="items")
    before = reader.files
    assert rows(reader) == rows(catalog(shop.url, ["title"], table="items"))
    assert reader.files == before == catalog(shop.url, ["title"], table="items").files
    shop.do("UPDATE items SET title = 'b'")
    assert catalog(shop.url, ["title"], table="items").files != before
    assert rows(reader) == [{"id": 1, "title": "b"}]
    assert reader.files != before, "it names what was read, not what was found"


def test_a_query_cannot_write(shop: Shop, catalog: OpenCatalog) -> None:
    shop.do("CREATE SEQUENCE counter; CREATE TABLE items (id int)")
    with pytest.raises(CatalogError, match="read-only transaction") as error:
        rows(catalog(shop.url, query="SELECT nextval('counter') AS id"))
    assert "nothing may be written" in error.value.hint


def test_a_password_comes_from_the_environment_by_its_name_in_the_url(
    shop: Shop, catalog: OpenCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PGPASSWORD")
    monkeypatch.setenv("SHOP_PASSWORD", PASSWORD)
    url = shop.url.replace("admin@", "admin:${SHOP_PASSWORD}@")
    reader = catalog(url, query="SELECT 1 AS id")
    assert rows(reader) == [{"id": 1}]
    assert PASSWORD not in repr(reader.files)
    monkeypatch.delenv("SHOP_PASSWORD")
    with pytest.raises(SpecError, match="SHOP_PASSWORD is not set"):
        catalog(url, query="SELECT 1 AS id")


def test_a_password_file_and_a_service_are_read_as_by_psql(
    shop: Shop, catalog: OpenCatalog, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.delenv("PGPASSWORD")
    escaped = PASSWORD.replace(":", r"\:")
    (tmp_path / "pass").write_text(f"*:*:*:*:{escaped}\n")
    (tmp_path / "pass").chmod(0o600)
    (tmp_path / "services").write_text(
        f"[shop]\nhost={HOST}\nport={shop.cluster.port}\nuser=admin\ndbname={shop.name}\n"
    )
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "pass"))
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    assert rows(catalog("postgresql:///?service=shop", query="SELECT 1 AS id")) == [{"id": 1}]


MISTAKES = [
    ({"table": "nix"}, 'relation "nix" does not exist', "catalog.table"),
    ({"query": "SELEC 1"}, "syntax error", "catalog.query"),
    ({"query": "SELECT nix FROM pg_class"}, 'column "nix" does not exist', "catalog.query"),
    ({"query": "SELECT 1 AS id, 2 AS id"}, "two columns are named 'id'", "AS"),
    ({"query": "SELECT 1 AS sku"}, "no column 'id'", "it has: sku"),
    ({"query": "SELECT pg_sleep(9), 1 AS id"}, "statement timeout", "statement_timeout"),
    ({"query": "SELECT 1 / (n - n) AS id FROM generate_series(1, 3) n"}, "division by zero", "catalog.query"),
    (
        {"query": "SELECT (chr(120) || n)::int AS id FROM generate_series(1, 3) n"},
        "invalid input",
        "catalog.query",
    ),
]


@pytest.mark.parametrize(("spec", "said", "hint"), MISTAKES, ids=[said for _, said, _ in MISTAKES])
def test_a_mistake_is_told_with_what_to_correct(
    shop: Shop, catalog: OpenCatalog, spec: dict[str, str], said: str, hint: str
) -> None:
    if said == "statement timeout":
        shop.do(f'ALTER DATABASE "{shop.name}" SET statement_timeout = 500')
    with pytest.raises(CatalogError) as error:
        rows(catalog(shop.url, **spec))
    assert error.type is CatalogError  # asking again would not help
    assert said in error.value.message
    assert hint in error.value.hint


def test_who_may_not_read_is_told_so(shop: Shop, catalog: OpenCatalog) -> None:
    shop.do("DROP ROLE IF EXISTS reader; CREATE ROLE reader LOGIN PASSWORD 'r'; CREATE TABLE items (id int)")
    url = shop.url.replace("admin@", "reader:${READER}@")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("READER", "r")
        with pytest.raises(CatalogError, match="permission denied for table items") as error:
            catalog(url, table="items")
    assert "GRANT" in error.value.hint.upper()


@pytest.mark.parametrize("password", ["wrong-secret", "wr%ong:s@cret/"])
def test_a_wrong_password_is_told_and_never_shown(
    shop: Shop, catalog: OpenCatalog, monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", password)
    with pytest.raises(CatalogError, match="password authentication failed") as error:
        catalog(shop.url.replace("admin@", "admin:${SHOP_PASSWORD}@"), table="items")
    assert "PGPASSWORD" in error.value.hint
    assert password not in str(error.value)
    assert error.value.__suppress_context__


def test_no_server_no_database_and_no_role_are_told(
    shop: Shop, catalog: OpenCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    (port,) = free_ports(1)
    with pytest.raises(CatalogUnavailable, match="Connection refused") as error:
        catalog(f"postgresql://{HOST}:{port}/x", table="items")
    assert "run again" in error.value.hint
    with pytest.raises(CatalogError, match='database "nix" does not exist') as mistaken:
        catalog(shop.cluster.url("nix"), table="items")
    assert mistaken.type is CatalogError
    assert "catalog.source" in mistaken.value.hint


@pytest.mark.parametrize("wrong", ["sslmode=perhaps", "sslmode=require", "colour=red", "service=nix"])
def test_a_wrong_setting_of_a_connection_is_no_server_that_is_away(
    shop: Shop, catalog: OpenCatalog, wrong: str
) -> None:
    with pytest.raises(CatalogError) as error:
        catalog(f"{shop.url}?{wrong}", table="items")
    assert error.type is CatalogError
    assert "catalog.source" in error.value.hint


def test_a_server_with_no_connection_left_is_asked_again_later(shop: Shop, catalog: OpenCatalog) -> None:
    shop.do("CREATE TABLE items (id int)")
    shop.do(
        f'ALTER DATABASE "{shop.name}" CONNECTION LIMIT 0; DROP ROLE IF EXISTS guest; CREATE ROLE guest LOGIN'
        " PASSWORD 'g'"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGPASSWORD", "g")
        with pytest.raises(CatalogUnavailable, match="too many connections"):
            catalog(shop.url.replace("admin@", "guest@"), table="items")


def test_a_connection_that_is_lost_while_reading_ends_the_reading(shop: Shop, catalog: OpenCatalog) -> None:
    shop.do("CREATE TABLE items (id int, title text)")
    shop.do("INSERT INTO items SELECT n, repeat('x', 2000) FROM generate_series(1, 60000) n")
    batches = catalog(shop.url, ["title"], table="items").batches()
    next(batches)
    shop.do("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'COPY%'")
    with pytest.raises(CatalogUnavailable) as error:
        list(batches)
    assert error.value.message.startswith(f"{shop.url} (table items): ")
    assert "nothing was planned" in error.value.hint


def test_a_reading_that_is_given_up_leaves_no_connection(shop: Shop, catalog: OpenCatalog) -> None:
    shop.do("CREATE TABLE items (id int); INSERT INTO items SELECT generate_series(1, 50000)")
    batches = catalog(shop.url, table="items").batches()
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    others = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    assert shop.ask(f"{others} AND state <> 'idle'") == 0
