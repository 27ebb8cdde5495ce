"""Catalogs at the edge: of no row, one row, empty rows, bad rows alone; and stores that are no folder."""

from __future__ import annotations

import io
import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image
from tests.models import tiny_image_package
from tests.support.mill import POISON, Mill, items, poisonable_package, quarantined

from embedmill.errors import CatalogError
from embedmill.release.admin import verify
from embedmill.release.log import read_history

ONE = [{"sku": "only", "title": "lamp", "category": "home", "price": 1.0}]
EMPTY = [{"sku": f"blank{n}", "title": " ", "category": None} for n in range(3)]
NULLS: list[dict[str, Any]] = [{"title": "no id"}, {"title": "none either"}]
DOUBLED = [{"sku": "twice", "title": "a"}, {"sku": "twice", "title": "b"}]
POISONED = [{"sku": f"bad{n}", "title": f"{POISON} {n}"} for n in range(3)]
EDGES: dict[str, tuple[list[dict[str, Any]], dict[str, int]]] = {
    "one row": (ONE, {"embedded": 1, "computed": 1}),
    "all rows empty": (EMPTY, {"empty": 3}),
    "one empty row": (EMPTY[:1], {"empty": 1}),
    "all ids null": (NULLS, {"quarantined": 2}),
    "one id, twice": (DOUBLED, {"quarantined": 2}),
    "nothing can be embedded": (POISONED, {"quarantined": 3}),
    "one of each": (
        [*ONE, *EMPTY[:1], *NULLS[:1], *DOUBLED, *POISONED[:1]],
        {"embedded": 1, "computed": 1, "empty": 1, "quarantined": 4},
    ),
}


@pytest.fixture
def edgy(mill: Mill, tmp_path: Path) -> Mill:
    mill.model = poisonable_package(tmp_path / "own")
    return mill


def assert_published(mill: Mill, rows: list[dict[str, Any]], wanted: dict[str, int]) -> None:
    result = mill.run(rows)
    for name in ("embedded", "computed", "empty", "quarantined"):
        assert getattr(result, name) == wanted.get(name, 0), name
    release = mill.live()
    assert release.name == result.release
    assert len(quarantined(release)) == result.quarantined
    assert len(release.to_arrow()) == result.embedded
    ids, vectors = release.to_numpy()
    assert (len(ids), vectors.shape) == (result.embedded, (result.embedded, 16))
    hits = release.search("lamp. home", k=5)
    assert len(hits) == min(5, result.embedded)
    assert [hit.id for hit in hits[:1]] == ["only"][: result.embedded]
    verify(mill.home, release.name)


@pytest.mark.parametrize("name", EDGES)
@pytest.mark.parametrize("kind", ["flat", "hnsw"])
def test_an_edge_of_a_catalog_is_planned_published_opened_and_searched(
    edgy: Mill, name: str, kind: str
) -> None:
    edgy.settings = {"index": {"kind": kind, "exact_below": 0}}
    assert_published(edgy, *EDGES[name])


@pytest.mark.parametrize("before", EDGES)
@pytest.mark.parametrize("after", EDGES)
def test_any_edge_may_follow_any_other(edgy: Mill, before: str, after: str) -> None:
    first = edgy.run(EDGES[before][0])
    rows, wanted = EDGES[after]
    result = edgy.run(rows)
    assert result.number == 2
    assert result.computed == (0 if first.computed else wanted.get("computed", 0))
    assert len(edgy.live().to_arrow()) == wanted.get("embedded", 0)
    assert result.reused + result.computed == wanted.get("embedded", 0)


@pytest.mark.parametrize("published", [True, False])
def test_a_catalog_of_no_rows_is_refused_and_changes_nothing(edgy: Mill, published: bool) -> None:
    if published:
        edgy.run(items(3))
    before = read_history(edgy.home)
    with pytest.raises(CatalogError, match=r"items\.parquet: the catalog has no rows"):
        edgy.run([])
    assert read_history(edgy.home) == before


def test_a_catalog_of_which_where_leaves_nothing_is_refused_with_the_count(edgy: Mill) -> None:
    edgy.settings = {"catalog": {**edgy.spec["catalog"], "where": "price > 100"}}
    with pytest.raises(CatalogError, match="`where` left out all 3"):
        edgy.run(items(3))


@pytest.mark.parametrize("kind", ["flat", "hnsw"])
def test_a_store_in_memory_does_all_that_a_folder_does(edgy: Mill, kind: str) -> None:
    """Every file comes through downloads there, as from an object store."""
    edgy.settings = {"store": f"memory://{uuid.uuid4().hex}", "index": {"kind": kind, "exact_below": 5}}
    assert_published(edgy, [*ONE, *items(8), *EMPTY], {"embedded": 9, "computed": 9, "empty": 3})
    result = edgy.run([*ONE, *items(8, start=2), *POISONED])
    assert (result.number, result.computed, result.reused, result.quarantined) == (2, 2, 7, 3)
    assert edgy.live().search("lamp. home", k=1)[0].id == "only"
    assert edgy.planned().plan.compute == 3


def test_stores_in_memory_and_in_a_folder_publish_the_same_content(edgy: Mill) -> None:
    rows = [*ONE, *items(30), *EMPTY, *NULLS, *DOUBLED]
    edgy.run(rows)
    folder = edgy.live().content
    edgy.settings = {"store": f"memory://{uuid.uuid4().hex}"}
    edgy.run(rows)
    assert edgy.live().content.content_digest == folder.content_digest


def test_an_image_catalog_goes_the_same_way(mill: Mill, tmp_path: Path) -> None:
    """Bytes that are no image are quarantined, a missing image is an empty item."""
    mill.model = tiny_image_package(tmp_path / "images")
    mill.schema = pa.schema([("sku", pa.string()), ("image", pa.binary())])
    mill.settings = {"catalog": {"source": "items.parquet", "id": "sku"}}
    red, blue = picture("red"), picture("blue")
    rows = [("red", red), ("blue", blue), ("red again", red), ("none", None), ("broken", b"GIF89a?")]
    result = mill.run([{"sku": sku, "image": image} for sku, image in rows])
    assert (result.computed, result.embedded, result.empty, result.quarantined) == (2, 3, 1, 1)
    release = mill.live()
    assert [row["reason"] for row in quarantined(release)] == ["image-invalid"]
    assert {hit.id for hit in release.search(item="red", k=2)} == {"red", "red again"}
    assert mill.run([{"sku": sku, "image": image} for sku, image in rows[:3]]).computed == 0


def picture(colour: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(out, "PNG")
    return out.getvalue()
