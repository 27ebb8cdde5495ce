"""What decoders refused is not fetched to be refused again, until something changed that may help."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tests.decoding.faulty_child import faulty
from tests.models import tiny_image_package
from tests.support.mill import Mill, quarantined
from tests.support.shop import check_accounts, fetching, png, reasons, rows, serve
from tests.support.web import WebServer, picture, status

from embedmill.decoding.process import DecodingLimits
from embedmill.errors import GateFailed
from embedmill.model.images import decoder_versions, decoders_among
from embedmill.release.refusals import Refusals
from embedmill.types import Reason
from embedmill.work import WorkerOptions, work

CORRUPT = picture(png(3)[:60])
VERSIONS = {"image_identity": "version", "image_version": "version"}


def test_a_corrupt_picture_is_not_downloaded_again_while_its_validator_is_unchanged(
    shop: Mill, web: WebServer
) -> None:
    serve(web, 5, n3=CORRUPT)
    assert shop.run(rows(web, 5)).quarantined == 1
    (before,) = quarantined(shop.live())
    for _ in range(2):  # it is remembered from release to release
        web.forget()
        again = shop.run(rows(web, 5))
        check_accounts(again)
        assert (again.computed, again.reused, again.quarantined) == (0, 4, 1)
        assert not web.downloads()
        (now,) = quarantined(shop.live())
        assert now == before | {"row": 3}


def test_a_corrupt_picture_with_another_validator_is_tried_again(shop: Mill, web: WebServer) -> None:
    serve(web, 5, n3=CORRUPT)
    shop.run(rows(web, 5))
    web.forget()
    web.paths["/3"] = picture(png(3)[:50])
    assert shop.run(rows(web, 5)).quarantined == 1
    assert "/3" in web.downloads()
    web.paths["/3"] = picture(png(3))
    mended = shop.run(rows(web, 5))
    assert (mended.computed, mended.reused, mended.quarantined) == (1, 4, 0)


def test_a_corrupt_picture_with_a_version_is_asked_for_when_the_version_changes(
    shop: Mill, web: WebServer
) -> None:
    fetching(shop, web, VERSIONS)
    serve(web, 5, n3=CORRUPT)
    shop.run(rows(web, 5))
    web.forget()
    assert shop.run(rows(web, 5)).quarantined == 1
    assert not web.asked
    raised = rows(web, 5)
    raised[3]["version"] = 2
    assert shop.run(raised).quarantined == 1
    assert web.downloads() == {"/3"}


def test_an_item_gone_for_a_day_comes_back_and_its_picture_is_tried_again(shop: Mill, web: WebServer) -> None:
    serve(web, 5, n4=CORRUPT)
    shop.run(rows(web, 5))
    shop.run(rows(web, 4))
    web.forget()
    assert shop.run(rows(web, 5)).quarantined == 1
    assert web.downloads() == {"/4"}


def test_another_model_tries_again(shop: Mill, web: WebServer, tmp_path: Path) -> None:
    serve(web, 5, n3=CORRUPT)
    shop.run(rows(web, 5))
    web.forget()
    shop.model = tiny_image_package(tmp_path / "other", seed=1)
    assert shop.run(rows(web, 5)).quarantined == 1
    assert "/3" in web.downloads()


def test_other_decoders_try_again(shop: Mill, web: WebServer) -> None:
    serve(web, 5, n3=CORRUPT)
    shop.run(rows(web, 5))
    home, live = shop.home, shop.live()
    same = decoders_among(decoder_versions())
    other = decoders_among(decoder_versions() | {"pillow": "0.1"})
    (known,) = Refusals.collect(home, same, live, []).known.values()
    assert (known.reason, known.lasting) == (Reason.IMAGE_INVALID, True)
    assert not Refusals.collect(home, other, live, []).known


def test_what_cannot_be_had_or_ends_its_decoder_is_tried_again(shop: Mill, web: WebServer) -> None:
    """Neither says anything of the bytes for sure: servers recover, and machines differ."""
    deadly = picture(faulty("segfault", 1))
    serve(web, 5, n2=status(404), n3=deadly)
    web.paths["/4"] = picture(png(4))
    plan = shop.planned(rows(web, 5))
    web.paths["/4"] = status(404)
    faults = DecodingLimits(module="tests.decoding.faulty_child")
    work(plan.home, plan.plan.run, WorkerOptions("here", decoding=faults))
    assert plan.run().quarantined == 3
    assert [row["decoders"] for row in quarantined(shop.live())] == [None] * 3
    web.forget()
    web.paths |= {"/2": picture(png(2)), "/3": picture(png(3)), "/4": picture(png(4))}
    assert shop.run(rows(web, 5)).quarantined == 0
    assert {"/2", "/3", "/4"} == web.downloads()


def test_what_a_run_refused_that_was_never_published_is_known_to_the_next(shop: Mill, web: WebServer) -> None:
    serve(web, 6, n3=CORRUPT)
    shop.settings |= {"gates": {"quarantine": 0.0}}
    with pytest.raises(GateFailed):
        shop.run(rows(web, 5))
    web.forget()
    shop.settings |= {"gates": {"quarantine": 1.0}}
    assert shop.run(rows(web, 6)).quarantined == 1
    assert web.asked["GET", "/5"]
    assert "/3" not in web.downloads()


def test_a_run_that_an_older_version_planned_is_finished(shop: Mill, web: WebServer) -> None:
    serve(web, 5, n1=status(404))
    run = shop.worked(rows(web, 5))
    entry = run.plan.quarantine
    file = shop.root / "mill" / run.home.key(entry.path)
    older = pq.read_table(file).drop_columns(["fingerprint", "decoders"])
    file.chmod(0o644)
    pq.write_table(older, file)
    kept = run.home.keep(run.home.key("runs/older.parquet"), file, relative_to=run.home.pipeline, rows=1)
    finished = dataclasses.replace(run, plan=run.plan.model_copy(update={"quarantine": kept}))
    assert finished.run().quarantined == 1
    assert reasons(shop) == {"s1": "fetch-failed"}
