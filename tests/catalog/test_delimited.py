"""CSV: nothing is guessed, nothing is lost, and what cannot be read has a line and a reason."""

from __future__ import annotations

import csv
import datetime
import gzip
import io
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.catalog.reading import OpenCatalog, excluded, rows, table, unreadable

from embedmill.catalog import CatalogReader
from embedmill.catalog.base import BATCH_BYTES
from embedmill.errors import CatalogError, SpecError
from embedmill.spec import CatalogSpec


@pytest.fixture
def write(tmp_path: Path) -> Path:
    return tmp_path / "items.csv"


def problems(reader: CatalogReader) -> list[tuple[int | None, str]]:
    return [(row.line, row.detail) for row in unreadable(reader)]


def test_every_column_is_text_as_it_is_written(write: Path, catalog: OpenCatalog) -> None:
    write.write_text("id,price,title\n00123,1.50, two  words \n1e3,NaN,NULL\n")
    assert rows(catalog("items.csv", ["title", "price"])) == [
        {"id": "00123", "title": " two  words ", "price": "1.50"},
        {"id": "1e3", "title": "NULL", "price": "NaN"},
    ]


def test_an_empty_cell_is_null(write: Path, catalog: OpenCatalog) -> None:
    write.write_text('id,title\n,a\nb,\nc,""\n')
    assert rows(catalog("items.csv", ["title"])) == [
        {"id": None, "title": "a"},
        {"id": "b", "title": None},
        {"id": "c", "title": None},
    ]


def test_quotes_may_hold_commas_quotes_and_line_breaks(write: Path, catalog: OpenCatalog) -> None:
    write.write_bytes(b'id,title\r\n1,"a, ""b""\r\nc"\r\n\r\n2,5" screen\r\n3,last')
    assert rows(catalog("items.csv", ["title"])) == [
        {"id": "1", "title": 'a, "b"\r\nc'},
        {"id": "2", "title": '5" screen'},
        {"id": "3", "title": "last"},
    ]


def test_unreadable_rows_have_the_line_they_start_on_and_the_others_are_read(
    write: Path, catalog: OpenCatalog
) -> None:
    write.write_bytes(
        b"id,title,note\n"
        b"1,ok,\n"
        b"2,too few\n"
        b'3,"two\nlines",\n'
        b"4,one,two,three\n"
        b"5,\xff\xfe,\n"
        b"6,ok,\xff in an unused column\n"
        b'7,"no" end,\n'
        b"8,ok,\n"
    )
    reader = catalog("items.csv", ["title"])
    assert [row["id"] for row in rows(reader)] == ["1", "3", "6", "8"]
    assert problems(reader) == [
        (3, "2 columns where the header has 3"),
        (6, "4 columns where the header has 3"),
        (7, "column 'title' is not UTF-8 text"),
        (9, "',' expected after '\"'"),
    ]
    assert {row.source for row in unreadable(reader)} == {"items.csv"}


def test_a_quote_that_never_ends_says_which_lines_it_took(write: Path, catalog: OpenCatalog) -> None:
    write.write_text('id,title\n1,ok\n2,"open\n3,lost\n4,lost\n')
    reader = catalog("items.csv", ["title"])
    assert [row["id"] for row in rows(reader)] == ["1"]
    assert problems(reader) == [(3, "unexpected end of data (through line 5)")]


def test_a_quote_that_never_ends_does_not_take_a_large_file_with_it(
    write: Path, catalog: OpenCatalog
) -> None:
    good = "".join(f"{i},a title of some length\n" for i in range(20_000))
    write.write_text(f'id,title\nx,"open\n{good}')
    reader = catalog("items.csv", ["title"])
    read = [row["id"] for row in rows(reader)]
    ((line, detail),) = problems(reader)
    assert line == 2
    assert f"(through line {20_002 - len(read)})" in detail
    assert read == [str(i) for i in range(20_000 - len(read), 20_000)]
    assert len(read) > 14_000


def test_declared_types_are_cast_and_misfits_are_unreadable(write: Path, catalog: OpenCatalog) -> None:
    write.write_text(
        "id,price,stock,active,day,at,cost\n"
        "1, 1.5 ,7,true,2026-01-31,2026-01-31 12:00:00,1.20\n"
        "2,,,,,,\n"
        "3,cheap,7,true,2026-01-31,2026-01-31 12:00:00,1.20\n"
        "4,1,7.5,yes,31.1.2026,noon,1.234\n"
    )
    types = {
        "id": "int64",
        "price": "float64",
        "stock": "uint8",
        "active": "bool",
        "day": "date",
        "at": "timestamp",
        "cost": "decimal(5, 2)",
    }
    reader = catalog("items.csv", ["price", "stock", "active", "day", "at", "cost"], types=types)
    assert rows(reader) == [
        {
            "id": 1,
            "price": 1.5,
            "stock": 7,
            "active": True,
            "day": datetime.date(2026, 1, 31),
            "at": datetime.datetime(2026, 1, 31, 12),
            "cost": Decimal("1.20"),
        },
        {"id": 2, **dict.fromkeys(["price", "stock", "active", "day", "at", "cost"])},
    ]
    assert problems(reader) == [
        (4, "column 'price': 'cheap' is not of type double"),
        (5, "column 'stock': '7.5' is not of type uint8"),
    ]


def test_a_long_value_is_cut_in_the_reason(write: Path, catalog: OpenCatalog) -> None:
    write.write_text(f"id,price\n1,{'9' * 100_000}x\n")
    for spec in ({"types": {"price": "float64"}}, {"where": "price > 1"}):
        ((_, detail),) = problems(catalog("items.csv", ["price"], **spec))
        assert len(detail) < 200


@pytest.mark.parametrize("name", ["int", "decimal(2,5)", "decimal(99,1)", "list<string>", ""])
def test_a_type_that_is_not_known_is_refused_with_those_that_are(
    name: str, write: Path, catalog: OpenCatalog
) -> None:
    write.write_text("id\n1\n")
    with pytest.raises(SpecError, match=r"catalog\.types\.id: .*allowed: string, bool, .*decimal"):
        catalog("items.csv", types={"id": name})


def test_a_type_for_no_column_is_refused(write: Path, catalog: OpenCatalog) -> None:
    write.write_text("id,price\n1,2\n")
    with pytest.raises(CatalogError, match=r"catalog\.types names 'prize' .*it has: id, price"):
        catalog("items.csv", types={"prize": "float64"})


def test_a_filter_compares_numbers_and_a_row_it_cannot_judge_is_unreadable(
    write: Path, catalog: OpenCatalog
) -> None:
    write.write_text("id,price\n1,9\n2,10\n3,100.5\n4,\n5,call us\n")
    reader = catalog("items.csv", ["price"], where="price >= 10")
    assert rows(reader) == [{"id": "2", "price": "10"}, {"id": "3", "price": "100.5"}]
    assert excluded(reader) == 2
    assert problems(reader) == [(6, "catalog.where: price = 'call us' is not double")]


def test_a_filter_column_is_read_and_not_handed_on(write: Path, catalog: OpenCatalog) -> None:
    write.write_text("id,title,active\n1,a,true\n2,b,FALSE\n3,c,1\n")
    reader = catalog("items.csv", ["title"], where="active")
    assert reader.schema.names == ["id", "title"]
    assert rows(reader) == [{"id": "1", "title": "a"}, {"id": "3", "title": "c"}]


def test_a_byte_order_mark_is_no_part_of_the_first_name(write: Path, catalog: OpenCatalog) -> None:
    write.write_bytes(b"\xef\xbb\xbfid\n1\n")
    assert rows(catalog("items.csv")) == [{"id": "1"}]


def test_gzip_and_tabs(tmp_path: Path, catalog: OpenCatalog) -> None:
    (tmp_path / "items.tsv.gz").write_bytes(gzip.compress(b"id\ttitle\n1\ta, b\n"))
    assert rows(catalog("items.tsv.gz", ["title"])) == [{"id": "1", "title": "a, b"}]


def test_a_truncated_gzip_is_an_error_that_names_the_file(tmp_path: Path, catalog: OpenCatalog) -> None:
    text = "id\n" + "".join(f"{i}\n" for i in range(100_000))
    (tmp_path / "items.csv.gz").write_bytes(gzip.compress(text.encode())[:-5000])
    reader = catalog("items.csv.gz")
    with pytest.raises(CatalogError, match=r"items\.csv\.gz: cannot be read as CSV"):
        list(reader.batches())


def test_a_header_alone_is_an_empty_catalog(write: Path, catalog: OpenCatalog) -> None:
    write.write_text("id,title\n")
    reader = catalog("items.csv", ["title"])
    assert list(reader.batches()) == []
    assert reader.schema == pa.schema([("id", pa.string()), ("title", pa.string())])


@pytest.mark.parametrize("content", [b"", b"\n\n"])
def test_a_file_without_a_header_is_an_error(content: bytes, write: Path, catalog: OpenCatalog) -> None:
    write.write_bytes(content)
    with pytest.raises(CatalogError, match=r"items\.csv: empty, without a header"):
        catalog("items.csv")


@pytest.mark.parametrize("content", ["id,title\n1,a\n".encode("utf-16"), b"id,t\xfctle\n1,a\n"])
def test_a_header_that_is_not_utf8_is_an_error(content: bytes, write: Path, catalog: OpenCatalog) -> None:
    write.write_bytes(content)
    with pytest.raises(CatalogError, match=r"items\.csv: the header cannot be read"):
        catalog("items.csv")


def test_batches_are_bounded_in_rows_and_bytes(write: Path, catalog: OpenCatalog) -> None:
    with write.open("w") as out:
        out.write("id,text\n")
        out.writelines(f"{i},{'x' * (i % 5000)}\n" for i in range(20_000))
    batches = [batch.rows for batch in catalog("items.csv", ["text"]).batches()]
    assert max(map(len, batches)) <= 8192
    assert max(batch.nbytes for batch in batches) <= BATCH_BYTES
    assert pa.Table.from_batches(batches)["id"].to_pylist() == [str(i) for i in range(20_000)]


CELL = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@given(st.lists(st.tuples(CELL, CELL, CELL), max_size=20), st.sampled_from(["\n", "\r\n"]))
def test_whatever_a_csv_writer_writes_is_read(
    tmp_path_factory: pytest.TempPathFactory, cells: list[tuple[str, str, str]], end: str
) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows([("id", "a", "b"), *cells])
    folder = tmp_path_factory.mktemp("csv")
    (folder / "items.csv").write_bytes(text.getvalue().encode())
    spec = CatalogSpec(source="items.csv", id="id")
    found = table(CatalogReader(spec, root=folder, store=None, columns=["a", "b"]))
    assert found.to_pylist() == [{"id": i or None, "a": a or None, "b": b or None} for i, a, b in cells]
