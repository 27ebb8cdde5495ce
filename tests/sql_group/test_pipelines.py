"""From a database to releases: what is computed, what is reused, and what a lost server leaves behind."""

from __future__ import annotations

import io
import sqlite3
from pathlib import Path

import pytest
from PIL import Image
from tests.models import tiny_image_package
from tests.sql_group.cluster import PASSWORD
from tests.sql_group.conftest import Shop
from tests.support.mill import Mill, items, quarantined

from embedmill.errors import CatalogError
from embedmill.release.runs import open_plans

ITEMS = 3000
CHANGED = ITEMS // 100
CREATE = "CREATE TABLE items (sku text, title text, category text, price double precision)"
INSERT = "INSERT INTO items VALUES (%s, %s, %s, %s)"


def fill(shop: Shop, count: int = ITEMS) -> None:
    shop.do(CREATE)
    shop.do(INSERT, [tuple(item.values()) for item in items(count)])


def from_database(mill: Mill, url: str, **catalog: object) -> Mill:
    """The mill with another catalog; its name and all else are as before."""
    own = {"source": url, "id": "sku", "display": ["title", "price"]}
    return Mill(mill.root, mill.model, settings={**mill.settings, "catalog": own | catalog})


def test_a_change_of_one_percent_costs_one_percent(mill: Mill, shop: Shop) -> None:
    fill(shop)
    catalog = from_database(mill, shop.url, table="items")
    first = catalog.run()
    assert (first.total, first.computed) == (ITEMS, ITEMS)
    shop.do("UPDATE items SET title = 'new ' || title WHERE substr(sku, 2)::int % 100 = 7")
    second = catalog.run()
    assert (second.computed, second.reused) == (CHANGED, ITEMS - CHANGED)
    (hit,) = catalog.live().search("new item 107. all", k=1)
    assert (hit.id, hit.fields) == ("s107", {"title": "new item 107", "price": 53.5})


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg", "sqlite", "sqlite+pysqlite"])
def test_a_release_is_that_of_the_same_rows_in_parquet_whatever_their_order(
    mill: Mill, shop: Shop, scheme: str
) -> None:
    rows = [*items(500), {"sku": "twin", "title": "a"}, {"sku": "twin", "title": "b"}, {"sku": "blank"}]
    mill.run(rows)
    expected = mill.live()
    values = [tuple(row.get(name) for name in mill.schema.names) for row in reversed(rows)]
    if scheme.startswith("sqlite"):
        url = f"{scheme}:///shop.db"
        with sqlite3.connect(mill.root / "shop.db") as database:
            database.execute(CREATE)
            database.executemany(INSERT.replace("%s", "?"), values)
        database.close()
    else:
        url = shop.url.replace("postgresql://", f"{scheme}://")
        shop.do(CREATE)
        shop.do(INSERT, values)
    mill.settings["name"] = "other"
    other = from_database(mill, url, query="SELECT * FROM items")
    report = other.run()
    assert report.computed == 500, "nothing is reused: it is another pipeline"
    live = other.live()
    assert live.content.content_digest == expected.content.content_digest
    assert live.to_arrow().schema.equals(expected.to_arrow().schema)
    reasons = [(row["id"], row["reason"]) for row in quarantined(live)]
    assert reasons == [(row["id"], row["reason"]) for row in quarantined(expected)]
    assert {id_ for id_, _ in reasons} == {"twin"}, "neither of two equal ids wins"


def test_an_open_run_is_gone_on_with_until_somebody_writes(mill: Mill, shop: Shop) -> None:
    fill(shop, 50)
    catalog = from_database(mill, shop.url, table="items")
    planned = catalog.worked()
    assert catalog.planned().plan.run == planned.plan.run
    shop.do("UPDATE items SET price = 0 WHERE sku = 's1'")
    again = catalog.planned()
    assert again.plan.run != planned.plan.run
    assert list(again.outlived.values()) == ["the catalog changed since"]
    assert again.plan.compute == 0, "what was finished is taken over"


def test_without_versions_a_run_is_planned_anew_and_takes_over_what_was_finished(mill: Mill) -> None:
    with sqlite3.connect(mill.root / "shop.db") as database:
        database.execute(CREATE)
        database.executemany(INSERT.replace("%s", "?"), [tuple(item.values()) for item in items(20)])
    database.close()
    catalog = from_database(mill, "sqlite+pysqlite:///shop.db", table="items")
    planned = catalog.worked()
    again = catalog.planned()
    assert again.plan.run != planned.plan.run
    assert again.plan.compute == 0


def test_a_server_that_is_lost_while_planning_leaves_no_plan(mill: Mill, shop: Shop) -> None:
    shop.do(CREATE)
    shop.do("INSERT INTO items SELECT n::text, repeat('x', 2000), '', 0 FROM generate_series(1, 60000) n")
    pipeline = from_database(mill, shop.url, table="items").open()
    terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'COPY%'"
    with pytest.raises(CatalogError, match="table items"):
        pipeline.plan(lambda _: shop.do(terminate))
    assert list(open_plans(pipeline.home)) == []


def test_a_row_that_cannot_be_read_is_quarantined_by_its_id(mill: Mill, shop: Shop) -> None:
    fill(shop, 10)
    shop.do(
        "ALTER TABLE items ADD COLUMN until timestamp; UPDATE items SET until = 'infinity' WHERE sku = 's3'"
    )
    catalog = from_database(mill, shop.url, table="items", where="until IS NULL")
    catalog.run()
    (row,) = quarantined(catalog.live())
    assert row["reason"] == "unreadable-row"
    assert row["detail"] == "sku 's3': column 'until' is not in the years 1 to 9999"


def test_no_password_comes_near_the_store(mill: Mill, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(shop, 10)
    monkeypatch.setenv("SHOP_PASSWORD", PASSWORD)
    monkeypatch.delenv("PGPASSWORD")
    url = shop.url.replace("admin@", "admin:${SHOP_PASSWORD}@")
    from_database(mill, url, table="items").run()
    files = [path for path in mill.root.rglob("*") if path.is_file()]
    assert any(b"${SHOP_PASSWORD}" in path.read_bytes() for path in files)
    assert not [path for path in files if PASSWORD.encode() in path.read_bytes()]


def picture(shade: int) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (24, 24), (shade, 0, 255 - shade)).save(content, "PNG")
    return content.getvalue()


@pytest.mark.parametrize("kind", ["bytes", "references"])
def test_images_are_bytes_of_a_column_or_files_that_it_names(
    mill: Mill, shop: Shop, tmp_path: Path, kind: str
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    shop.do(f"CREATE TABLE items (sku int, image {'bytea' if kind == 'bytes' else 'text'})")
    for shade in range(20):
        (photos / f"{shade}.png").write_bytes(picture(shade * 10))
    values = [(n, picture(n * 10) if kind == "bytes" else f"{n}.png") for n in range(20)]
    shop.do("INSERT INTO items VALUES (%s, %s)", values)
    mill.model = tiny_image_package(tmp_path / "images")
    folder = {"images": "photos"} if kind == "references" else {}
    catalog = from_database(mill, shop.url, table="items", display=[], **folder)
    assert catalog.run().computed == 20
    shop.do("UPDATE items SET image = (SELECT image FROM items WHERE sku = 1) WHERE sku = 0")
    second = catalog.run()
    assert (second.computed, second.reused, second.quarantined) == (0, 20, 0)


def test_references_need_to_know_their_folder(mill: Mill, shop: Shop, tmp_path: Path) -> None:
    shop.do("CREATE TABLE items (sku int, image text); INSERT INTO items VALUES (1, 'a.png')")
    mill.model = tiny_image_package(tmp_path / "images")
    with pytest.raises(CatalogError) as error:
        from_database(mill, shop.url, table="items", display=[]).planned()
    assert error.value.hint == "set catalog.images"
