"""A catalog of URLs: runs end in time whatever servers do, count exactly, and download only what changed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from tests.every_input import SCHEMA, every_input_package, every_item
from tests.models import tiny_image_package
from tests.support.mill import Mill
from tests.support.shop import check_accounts, fetching, png, reasons, rows, serve
from tests.support.web import WebServer, answer, hang, picture, status

from embedmill.errors import Yielded
from embedmill.model.importing import import_declared
from embedmill.release.goldens import read_goldens
from embedmill.work import WorkerOptions, work

ITEMS = 1000
TIMEOUT_S = 30.0
"""What a picture that hangs costs; one that does not has it to come in."""


def test_a_thousand_items_of_which_some_hang_fail_or_are_corrupt(shop: Mill, web: WebServer) -> None:
    hanging, failing, corrupt = range(0, 1000, 250), range(7, 1000, 20), range(11, 1000, 50)
    serve(web, ITEMS)
    web.paths |= {f"/{n}": hang for n in hanging} | {f"/{n}": status(503) for n in failing}
    web.paths |= {f"/{n}": picture(png(n)[:60]) for n in corrupt}
    fetching(shop, web, timeout_s=TIMEOUT_S)
    bad = len(hanging) + len(failing) + len(corrupt)

    started = time.monotonic()
    planned = shop.planned(rows(web, ITEMS))
    assert time.monotonic() - started < len(hanging) * TIMEOUT_S, "those that hang do so beside each other"
    counts = planned.plan.items
    assert counts.new + counts.changed + counts.unchanged + counts.quarantined == counts.total == ITEMS
    assert counts.quarantined == len(hanging) + len(failing)
    assert not web.downloads() - {f"/{n}" for n in hanging}
    work(planned.home, planned.plan.run, WorkerOptions("here"))
    first = planned.run()
    check_accounts(first)
    assert (first.embedded, first.quarantined) == (ITEMS - bad, bad)
    assert Counter(reasons(shop).values()) == {
        "fetch-timeout": len(hanging),
        "fetch-failed": len(failing),
        "image-invalid": len(corrupt),
    }
    assert web.downloads() == {f"/{n}" for n in {*range(ITEMS)} - {*hanging, *failing}}

    web.forget()
    changed = range(3, 1000, 100)
    web.paths |= {f"/{n}": picture(png(n + 20_000)) for n in changed}
    web.paths |= {f"/{n}": picture(png(n)) for n in failing} | {f"/{n}": status(503) for n in hanging}
    second = shop.run(rows(web, ITEMS))
    check_accounts(second)
    assert (second.embedded, second.quarantined) == (
        len(changed) + len(failing),
        len(hanging) + len(corrupt),
    )
    assert Counter(reasons(shop).values()) == {  # those that hung were asked again
        "fetch-failed": len(hanging),
        "image-invalid": len(corrupt),
    }
    assert web.downloads() == {f"/{n}" for n in {*changed, *failing}}


def test_an_unchanged_catalog_of_urls_downloads_nothing(shop: Mill, web: WebServer) -> None:
    serve(web, 20)
    assert shop.run(rows(web, 20)).computed == 20
    web.forget()
    result = shop.run(rows(web, 20))
    assert (result.computed, result.reused) == (0, 20)
    assert not web.downloads()


@pytest.mark.parametrize("when", ["plan", "work"])
@pytest.mark.parametrize("on_error", ["keep_previous", "quarantine"])
def test_an_item_that_cannot_be_fetched_now(shop: Mill, web: WebServer, when: str, on_error: str) -> None:
    fetching(shop, web, on_error=on_error)
    serve(web, 10)
    shop.run(rows(web, 10))
    before = dict(zip(*shop.live().to_numpy(), strict=True))
    web.paths["/3"] = picture(png(300))  # changed, and then not to be had; so is a new item
    if when == "plan":
        web.paths |= {"/3": status(503), "/10": status(503)}
    run = shop.planned(rows(web, 11))
    web.paths |= {"/3": status(503), "/10": status(503)}
    work(run.home, run.plan.run, WorkerOptions("here"))
    result = run.run()
    check_accounts(result)
    kept = on_error == "keep_previous"
    assert (result.kept, result.quarantined) == ((1, 1) if kept else (0, 2))
    assert reasons(shop) == dict.fromkeys({"s10"} if kept else {"s3", "s10"}, "fetch-failed")
    now = dict(zip(*shop.live().to_numpy(), strict=True))
    assert ("s3" in now) == kept
    assert not kept or now["s3"].tobytes() == before["s3"].tobytes()
    web.paths |= {"/3": picture(png(300)), "/10": picture(png(10))}
    result = shop.run(rows(web, 11))
    assert (result.embedded, result.kept, result.quarantined) == (2, 0, 0)


def test_a_previous_vector_of_another_model_is_not_kept(shop: Mill, web: WebServer, tmp_path: Path) -> None:
    fetching(shop, web, on_error="keep_previous")
    serve(web, 5)
    shop.run(rows(web, 5))
    shop.model = tiny_image_package(tmp_path / "other", seed=1)
    web.paths["/3"] = status(503)
    result = shop.run(rows(web, 5))
    assert (result.embedded, result.kept, result.quarantined) == (4, 0, 1)


def test_an_item_that_asks_for_a_private_address_keeps_nothing(shop: Mill, web: WebServer) -> None:
    fetching(shop, web, on_error="keep_previous")
    serve(web, 5)
    shop.run(rows(web, 5))
    result = shop.run([*rows(web, 4), {"sku": "s4", "image": "http://10.0.0.1/x"}])
    assert (result.reused, result.kept, result.quarantined) == (4, 0, 1)
    assert reasons(shop) == {"s4": "refused-address"}


def published_with_two_images(mill: Mill, web: WebServer, folder: Path) -> dict[str, str]:
    """One item is live, of a front and a back; returns their URLs."""
    source = every_input_package(folder / "source")
    import_declared(source / "model.onnx", source / "model.yaml", folder / "package")
    pictures = [pa.field("front", pa.string()), pa.field("back", pa.string())]
    mill.model, mill.schema = folder / "package", pa.schema([*list(SCHEMA)[:-2], *pictures])
    fetching(mill, web, on_error="keep_previous", attempts=1)
    web.paths |= {f"/{side}": picture(png(1)) for side in ("front", "back")}
    seen = {side: web.url(f"/{side}") for side in ("front", "back")}
    mill.run([{**every_item(2)[1], **seen}])
    return seen


@pytest.mark.parametrize("when", ["plan", "work"])
@pytest.mark.parametrize("bad", ["front", "back"])
def test_an_item_keeps_nothing_whose_one_image_is_refused_while_the_other_cannot_be_fetched(
    mill: Mill, web: WebServer, tmp_path: Path, bad: str, when: str
) -> None:
    seen = published_with_two_images(mill, web, tmp_path)
    web.paths |= {f"/{side}": picture(png(2)) for side in ("front", "back")}
    if when == "plan":
        web.paths |= {f"/{side}": status(503) for side in ("front", "back")}
        seen[bad] = "http://10.0.0.1/x"
    run = mill.planned([{**every_item(2)[1], **seen}])
    web.paths |= {f"/{side}": status(503) for side in ("front", "back")}
    web.paths[f"/{bad}"] = answer(b"<p>sold out</p>", kind="text/html")
    work(run.home, run.plan.run, WorkerOptions("here"))
    result = run.run()
    assert (result.kept, result.quarantined) == (0, 1)
    assert reasons(mill) == {"s1": "refused-address" if when == "plan" else "image-invalid"}


def test_an_item_keeps_its_vector_until_all_of_its_images_came_of_which_one_is_damaged(
    mill: Mill, web: WebServer, tmp_path: Path
) -> None:
    item = {**every_item(2)[1], **published_with_two_images(mill, web, tmp_path)}
    web.paths |= {"/front": picture(b"damaged"), "/back": status(503)}
    assert mill.run([item]).kept == 1
    web.paths["/back"] = picture(png(2))
    result = mill.run([item])
    assert (result.kept, result.quarantined) == (0, 1)
    assert reasons(mill) == {"s1": "image-invalid"}


def test_an_item_twice_in_the_catalog_that_cannot_be_fetched_is_quarantined_once_a_row(
    shop: Mill, web: WebServer
) -> None:
    serve(web, 3, n1=status(404))
    result = shop.run([*rows(web, 3), rows(web, 3)[1]])
    check_accounts(result)
    assert (result.embedded, result.quarantined) == (2, 2)
    assert reasons(shop) == {"s1": "duplicate-id"}


def test_a_worker_that_waits_for_pictures_gives_its_device_back(shop: Mill, web: WebServer) -> None:
    fetching(shop, web, timeout_s=60.0)
    serve(web, 3)
    run = shop.planned(rows(web, 3))
    web.paths["/1"] = hang
    web.forget()

    def ask_to_stop() -> None:
        while "/1" not in web.downloads():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=ask_to_stop, daemon=True).start()
    with pytest.raises(Yielded):
        work(run.home, run.plan.run, WorkerOptions("here"))
    web.paths["/1"] = picture(png(1))
    work(run.home, run.plan.run, WorkerOptions("here"))
    assert run.run().embedded == 3


def test_a_version_column_says_what_changed_and_plans_ask_nobody(shop: Mill, web: WebServer) -> None:
    fetching(shop, web, {"image_identity": "version", "image_version": "version"})
    serve(web, 10)
    shop.planned(rows(web, 10))
    assert not web.asked
    assert shop.run(rows(web, 10)).computed == 10
    web.forget()
    changed = rows(web, 10)
    changed[4]["version"] = 2
    web.paths["/4"] = picture(png(400))
    assert shop.run(changed).computed == 1
    assert web.downloads() == {"/4"}


def test_with_identity_by_bytes_equal_pictures_share_a_vector(shop: Mill, web: WebServer) -> None:
    fetching(shop, web, {"image_identity": "bytes"})
    serve(web, 10, n7=picture(png(3)))
    assert shop.run(rows(web, 10)).computed == 9
    web.paths["/10"] = picture(png(3))
    result = shop.run(rows(web, 11))
    assert (result.computed, result.reused) == (0, 11)


def test_a_golden_is_the_picture_that_was_embedded(shop: Mill, web: WebServer) -> None:
    """With a version column only the content's digest tells that a picture changed after it was embedded."""
    fetching(shop, web, {"image_identity": "version", "image_version": "version"})
    serve(web, 10)
    run = shop.worked(rows(web, 10))
    web.paths["/3"] = picture(png(300))
    run.run()
    release = shop.live()
    (file,) = (entry.path for entry in release.content.goldens if entry.path.startswith("goldens/item."))
    images = read_goldens(release.folder / file).column("image").to_pylist()
    assert sorted(images) == sorted(png(n) for n in range(10) if n != 3)
