"""`search` and `export`: hits as a table, as JSON and as a page; vectors as files."""

from __future__ import annotations

import base64
import io
import re
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tests.cli.terminal import Terminal
from tests.models import tiny_image_package
from tests.support.mill import SCHEMA, Mill, items

from embedmill.cli.pages import hits_page
from embedmill.types import Hit

MOMENT = datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC)
ODD_COLUMNS: dict[str, tuple[pa.DataType, Any, Any]] = {
    "day": (pa.date32(), date(2026, 1, 31), "2026-01-31"),
    "at": (pa.timestamp("us", "UTC"), MOMENT, "2026-01-31T23:59:59+00:00"),
    "nanos": (pa.timestamp("ns"), 1_234_567_890_123_456_789, "2009-02-13 23:31:30.123456789"),
    "far": (pa.timestamp("s"), 2**40, f"<value out of range: {2**40 * 1000}>"),
    "clock": (pa.time64("us"), time(1, 2, 3), "01:02:03"),
    "lasts": (pa.duration("s"), timedelta(minutes=1), "0:01:00"),
    "cost": (pa.decimal128(9, 2), Decimal("12.50"), "12.50"),
    "raw": (pa.binary(), b"\x00\xff", "AP8="),
    "endless": (pa.float64(), float("inf"), None),
    "nothing": (pa.int64(), None, None),
    "tags": (pa.list_(pa.string()), ["a", "b"], ["a", "b"]),
    "size": (pa.struct([("w", pa.int64()), ("d", pa.date32())]), {"w": 1, "d": date(2026, 1, 1)}, None),
    "sold": (pa.bool_(), True, True),
}
ODD_COLUMNS["size"] = (*ODD_COLUMNS["size"][:2], {"w": 1, "d": "2026-01-01"})


def picture() -> bytes:
    """A small PNG."""
    out = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(out, "PNG")
    return out.getvalue()


def test_text_finds_the_item_of_that_text(mill: Mill, spec: Path, embedmill: Terminal) -> None:
    result = mill.run(items(40))
    report = embedmill.json("search", spec, "--text", "item 17. all", "-k", "3")
    assert set(report) == {"schema", "release", "number", "hits"}
    assert (report["schema"], report["release"], report["number"]) == ("search/1", result.release, 1)
    assert len(report["hits"]) == 3
    best = report["hits"][0]
    assert set(best) == {"id", "score", "title", "price"}
    assert (best["id"], best["title"], best["price"]) == ("s17", "item 17", 8.5)
    assert best["score"] == pytest.approx(1.0, abs=1e-5)


def test_an_empty_text_is_an_error(mill: Mill, spec: Path, embedmill: Terminal) -> None:
    mill.run(items(20))
    said = embedmill("search", spec, "--text", "")
    assert said.code == 1
    assert "the text is empty" in said.err


def test_a_release_is_searched_by_its_folder_too(mill: Mill, spec: Path, embedmill: Terminal) -> None:
    mill.run(items(40))
    by_spec = embedmill.json("search", spec, "--item", "s3")
    assert embedmill.json("search", mill.live().folder, "--item", "s3") == by_spec
    assert by_spec["hits"][0]["id"] == "s3"


def test_items_of_number_ids_are_found_by_their_digits(mill: Mill, spec: Path, embedmill: Terminal) -> None:
    mill.schema = SCHEMA.set(0, pa.field("sku", pa.int64()))
    mill.run([{**row, "sku": n} for n, row in enumerate(items(40))])
    assert embedmill.json("search", spec, "--item", "17", "-k", "1")["hits"][0]["id"] == 17
    said = embedmill("search", spec, "--item", "seventeen")
    assert said.code == 1
    assert "item 'seventeen' is not in release" in said.err


def test_a_vector_is_read_from_a_file(mill: Mill, spec: Path, embedmill: Terminal, tmp_path: Path) -> None:
    mill.run(items(40))
    ids, vectors = mill.live().to_numpy()
    np.save(tmp_path / "query.npy", vectors[7:8])
    hits = embedmill.json("search", spec, "--vector", tmp_path / "query.npy")["hits"]
    assert hits[0]["id"] == ids[7]


def test_a_file_that_is_no_vector_is_an_error(mill: Mill, spec: Path, embedmill: Terminal) -> None:
    mill.run(items(8))
    np.save(mill.root / "short.npy", np.zeros(3, np.float32))
    np.save(mill.root / "two.npy", np.zeros((2, 8), np.float32))
    np.save(mill.root / "number.npy", np.float32(1))
    np.save(mill.root / "nan.npy", np.full(16, np.nan, np.float32))
    np.save(mill.root / "large.npy", np.full(16, 1e300))
    np.save(mill.root / "pickled.npy", np.array([{}], dtype=object), allow_pickle=True)
    for name, code, words in (
        ("short.npy", 1, "16 dimensions"),
        ("pickled.npy", 2, "not an .npy file of numbers"),
        ("none.npy", 2, "No such file"),
        ("two.npy", 2, "an array of shape (2, 8), and a query is one row"),
        ("number.npy", 2, "an array of shape (), and a query is one row"),
        ("nan.npy", 2, "has a value that is not finite"),
        ("large.npy", 2, "has a value that is not finite"),
    ):
        said = embedmill("search", spec, "--vector", mill.root / name)
        assert (said.code, said.err.count("\n")) == (code, 1)
        assert words in said.err


def test_display_values_of_any_type_are_json(mill: Mill, spec: Path, embedmill: Terminal) -> None:
    fields = [*SCHEMA, *(pa.field(name, kind) for name, (kind, _, _) in ODD_COLUMNS.items())]
    mill.schema = pa.schema(fields)
    mill.settings["catalog"] = {"source": "items.parquet", "id": "sku", "display": list(ODD_COLUMNS)}
    odd = {name: value for name, (_, value, _) in ODD_COLUMNS.items()}
    mill.run([row | odd for row in items(3)])
    (hit,) = embedmill.json("search", spec, "--item", "s1", "-k", "1")["hits"]
    assert {name: hit[name] for name in ODD_COLUMNS} == {
        name: expected for name, (_, _, expected) in ODD_COLUMNS.items()
    }
    table = embedmill("search", spec, "--item", "s1", "-k", "1")
    assert table.code == 0
    assert "<bytes, 2 bytes>" in table.out


@pytest.mark.parametrize(
    ("kind", "value", "shown"),
    [
        (pa.date32(), date(2026, 1, 31), "2026-01-31"),
        (pa.decimal128(9, 2), Decimal("1.50"), "1.50"),
        (pa.binary(), b"\x01\x02", "AQI="),
        (pa.timestamp("ns"), 1_234_567_890_123_456_789, "2009-02-13 23:31:30.123456789"),
        (pa.bool_(), True, True),
    ],
    ids=str,
)
def test_ids_of_any_type_are_json(
    mill: Mill, spec: Path, embedmill: Terminal, kind: pa.DataType, value: Any, shown: Any
) -> None:
    mill.schema = SCHEMA.set(0, pa.field("sku", kind))
    mill.run([{**items(1)[0], "sku": value}])
    assert embedmill.json("search", spec, "--text", "item", "-k", "1")["hits"][0]["id"] == shown


def test_pictures_are_told_by_kind_and_size_in_tables_and_shown_on_pages(
    mill: Mill, spec: Path, embedmill: Terminal
) -> None:
    mill.schema = pa.schema([*SCHEMA, ("image", pa.binary())])
    mill.settings["catalog"] = {"source": "items.parquet", "id": "sku", "display": ["title", "image"]}
    mill.run([row | {"image": picture()} for row in items(3)])
    page = mill.root / "hits.html"
    said = embedmill("search", spec, "--text", "item", "--html", page)
    assert re.search(r"<png, \d+ bytes>", said.out)
    assert f"wrote {page}" in said.err
    encoded = base64.b64encode(picture()).decode()
    assert page.read_text().count(f"src='data:image/png;base64,{encoded}'") == 3


class Elements(HTMLParser):
    """The tags and attributes of a page."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: dict[str, str | None] = {}
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= attrs


def test_a_page_escapes_all_that_comes_from_the_catalog_or_the_query() -> None:
    evil = "<script>alert(1)</script><img src=x onerror='alert(2)'>\"'&"
    svg = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(3)</script></svg>"
    hit = Hit(evil, 0.5, {evil: evil, "svg": svg, "picture' onload='x": picture()})
    page = Elements(hits_page(evil, evil, 1, [hit]))
    assert "script" not in page.tags
    assert page.tags.count("img") == 1
    assert not {name for name in page.attributes if name.startswith("on")}
    assert page.attributes["alt"] == "picture' onload='x"
    assert "default-src 'none'" in (page.attributes["content"] or "")


def test_a_page_shows_the_thumbnails_of_a_release_that_displays_no_picture(
    mill: Mill, spec: Path, embedmill: Terminal
) -> None:
    mill.model = tiny_image_package(mill.root / "images")
    mill.schema = pa.schema([("sku", pa.string()), ("image", pa.binary())])
    mill.settings["catalog"] = {"source": "items.parquet", "id": "sku", "thumbnails": 16}
    mill.run([{"sku": "red", "image": picture()}, {"sku": "nothing", "image": None}])
    page = mill.root / "hits.html"
    assert embedmill("search", spec, "--item", "red", "-k", "2", "--html", page).code == 0
    found = Elements(page.read_bytes())
    small = mill.live().thumbnail("red")
    assert small is not None
    assert found.tags.count("img") == 1
    assert found.attributes["src"] == f"data:image/jpeg;base64,{base64.b64encode(small).decode()}"


def test_a_page_refers_to_nothing_outside_itself() -> None:
    page = hits_page("q", "r", None, [Hit(1, 0.5, {"link": "https://example.com/x.png"})])
    assert not re.findall(rb"(?:src|href|url)\s*[=(]\s*['\"]?https?:", page)


def test_export_writes_and_tells_files(mill: Mill, spec: Path, embedmill: Terminal, tmp_path: Path) -> None:
    mill.run(items(40))
    report = embedmill.json("export", spec, "--to", tmp_path / "vectors.npy")
    assert report["schema"] == "export/1"
    assert report["files"] == [str(tmp_path / "vectors.npy"), str(tmp_path / "vectors.ids.parquet")]
    assert (report["items"], report["dimension"], report["without_vector"]) == (40, 16, 0)
    assert np.load(tmp_path / "vectors.npy").shape == (40, 16)
    again = embedmill("export", spec, "--to", tmp_path / "vectors.npy")
    assert again.code == 2
    assert "--force" in again.err
    assert embedmill("export", spec, "--to", tmp_path / "vectors.npy", "--force").code == 0


def test_export_has_a_type_for_readers_without_fixed_size_lists(
    mill: Mill, spec: Path, embedmill: Terminal, tmp_path: Path
) -> None:
    mill.run(items(8))
    said = embedmill("export", spec, "--to", tmp_path / "x.parquet", "--list-type", "list")
    assert said.code == 0
    assert pa.types.is_list(pq.read_schema(tmp_path / "x.parquet").field("vector").type)
