"""Equal contents under another reference, or with another validator, get the vector that is there."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pytest
from tests.models import tiny_image_package, tiny_mixed_package
from tests.support.mill import Mill, undo
from tests.support.shop import check_accounts, png, reasons, rows, serve
from tests.support.web import WebServer, answer, picture

from embedmill import Release
from embedmill.release.runs import commit_records
from embedmill.work import WorkerOptions, work


def vectors(release: Release) -> dict[str, bytes]:
    return {str(sku): vector.tobytes() for sku, vector in zip(*release.to_numpy(), strict=True)}


def moved(web: WebServer, count: int, folder: str) -> list[dict[str, object]]:
    web.paths |= {f"/{folder}/{n}": picture(png(n)) for n in range(count)}
    return [row | {"image": web.url(f"/{folder}/{n}")} for n, row in enumerate(rows(web, count))]


def test_a_server_that_tags_everything_anew_costs_downloads_and_no_vector(shop: Mill, web: WebServer) -> None:
    serve(web, 10)
    assert shop.run(rows(web, 10)).computed == 10
    before = vectors(shop.live())
    web.forget()
    web.paths |= {f"/{n}": answer(png(n), ETag=f'"new-{n}"') for n in range(10)}
    again = shop.run(rows(web, 10))
    check_accounts(again)
    assert (again.computed, again.quarantined) == (0, 0)
    assert web.downloads() == {f"/{n}" for n in range(10)}
    assert vectors(shop.live()) == before
    web.forget()
    assert shop.run(rows(web, 10)).reused == 10
    assert not web.downloads()


def test_pictures_that_moved_to_other_urls_keep_their_vectors(shop: Mill, web: WebServer) -> None:
    serve(web, 10)
    shop.run(rows(web, 10))
    before = vectors(shop.live())
    there = moved(web, 12, "cdn")
    result = shop.run(there)
    assert result.computed == 2
    after = vectors(shop.live())
    assert {sku: after[sku] for sku in before} == before


def test_they_are_known_after_a_compaction_and_when_only_a_copy_is_left(shop: Mill, web: WebServer) -> None:
    serve(web, 10)
    shop.settings["compact_above"] = 0.0
    shop.run(rows(web, 10))
    before = vectors(shop.live())
    assert shop.run(moved(web, 10, "one")).compacted
    assert shop.live().content.segments[0].name.endswith("-compacted")
    result = shop.run(moved(web, 10, "two"))
    assert (result.computed, result.compacted) == (0, True)
    assert vectors(shop.live()) == before


def test_equal_pictures_of_one_shard_are_computed_once(shop: Mill, web: WebServer) -> None:
    serve(web, 10, n7=picture(png(3)), n8=picture(png(2)[:60]), n9=picture(png(2)[:60]))
    result = shop.run(rows(web, 10))
    check_accounts(result)
    assert (result.computed, result.embedded, result.quarantined) == (7, 8, 2)
    found = vectors(shop.live())
    assert found["s7"] == found["s3"]
    assert reasons(shop) == {"s8": "image-invalid", "s9": "image-invalid"}


def test_another_model_computes_everything(shop: Mill, web: WebServer, tmp_path: Path) -> None:
    serve(web, 5)
    shop.run(rows(web, 5))
    shop.model = tiny_image_package(tmp_path / "other", seed=1)
    assert shop.run(moved(web, 5, "cdn")).computed == 5


def test_an_equal_picture_with_another_text_is_another_content(
    shop: Mill, web: WebServer, tmp_path: Path
) -> None:
    shop.model = tiny_mixed_package(tmp_path / "mixed")
    shop.schema = pa.schema([("sku", pa.string()), ("image", pa.string()), ("title", pa.string())])
    serve(web, 2)
    titled = [{"sku": row["sku"], "image": row["image"], "title": "red"} for row in rows(web, 2)]
    shop.run(titled)
    there = [row | {"image": new["image"]} for row, new in zip(titled, moved(web, 2, "cdn"), strict=True)]
    assert shop.run([there[0], there[1] | {"title": "blue"}]).computed == 1


def test_a_file_that_was_only_touched_keeps_its_vector(mill: Mill, tmp_path: Path) -> None:
    mill.model = tiny_image_package(tmp_path / "images-model")
    mill.schema = pa.schema([("sku", pa.string()), ("image", pa.string())])
    mill.settings = {"catalog": {"source": "items.parquet", "id": "sku", "images": "photos"}}
    (mill.root / "photos").mkdir()
    for number in range(3):
        (mill.root / "photos" / f"{number}.png").write_bytes(png(number))
    found = [{"sku": f"s{n}", "image": f"{n}.png"} for n in range(3)]
    mill.run(found)
    before = vectors(mill.live())
    os.utime(mill.root / "photos" / "1.png", ns=(1, 1))
    (mill.root / "photos" / "2.png").write_bytes(png(200))
    result = mill.run(found)
    assert (result.computed, result.embedded, result.reused) == (1, 2, 1)
    assert vectors(mill.live())["s1"] == before["s1"]


def test_thumbnails_come_along(shop: Mill, web: WebServer) -> None:
    shop.settings["catalog"]["thumbnails"] = 16
    serve(web, 4)
    shop.run(rows(web, 4))
    before = {f"s{n}": shop.live().thumbnail(f"s{n}") for n in range(4)}
    assert None not in before.values()
    assert shop.run(moved(web, 4, "cdn")).computed == 0
    assert {f"s{n}": shop.live().thumbnail(f"s{n}") for n in range(4)} == before


def test_contents_of_a_run_that_was_never_published_are_known(shop: Mill, web: WebServer) -> None:
    serve(web, 6)
    shop.worked(rows(web, 5))
    both = [*rows(web, 6), *({**row, "sku": f"m{n}"} for n, row in enumerate(moved(web, 5, "cdn")))]
    result = shop.run(both)
    assert result.computed == 1
    found = vectors(shop.live())
    assert all(found[f"m{n}"] == found[f"s{n}"] for n in range(5))


@pytest.mark.parametrize("lost", [0, 1])
def test_a_shard_that_is_done_twice_has_the_same_bits(shop: Mill, web: WebServer, lost: int) -> None:
    shop.settings["work"] = {"shard_rows": 4}
    serve(web, 10)
    shop.run(rows(web, 7))
    run = shop.planned(moved(web, 10, "cdn"))
    work(run.home, run.plan.run, WorkerOptions("first"))
    records = {record.shard: record for record in commit_records(run.home, run.plan)}
    shard = run.plan.shards[lost].name
    undo(run, shard)
    work(run.home, run.plan.run, WorkerOptions("second"))
    again = {record.shard: record for record in commit_records(run.home, run.plan)}
    assert again[shard].attempt != records[shard].attempt
    before, after = records[shard].vectors, again[shard].vectors
    assert before is not None
    assert after is not None
    assert before.sha256 == after.sha256
    assert sum(record.copied for record in again.values()) == 7
    assert run.run().computed == 3
