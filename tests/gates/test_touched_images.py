"""Images that were only touched or copied anew are no churn, and no changed input of a release."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.gates.test_gates import verdicts_on
from tests.models import tiny_image_package
from tests.support.mill import Mill
from tests.support.shop import png

from embedmill.release.diff import diff_releases

COUNT = 10


@pytest.fixture
def shop(mill: Mill, tmp_path: Path) -> Mill:
    """A release of ten pictures in a folder, and a gate that allows one of them to change."""
    mill.model = tiny_image_package(tmp_path / "images-model")
    mill.schema = pa.schema([("sku", pa.string()), ("image", pa.string())])
    mill.settings = {
        "catalog": {"source": "items.parquet", "id": "sku", "images": "pictures"},
        "gates": {"churn": 0.1},
    }
    (mill.root / "pictures").mkdir()
    for number in range(COUNT):
        picture(mill, number).write_bytes(png(number))
    mill.run(rows())
    for number in range(COUNT):
        os.utime(picture(mill, number), ns=(0, 1_000_000_000))
    return mill


def picture(mill: Mill, number: int) -> Path:
    return mill.root / "pictures" / f"{number}.png"


def rows(count: int = COUNT) -> list[dict[str, Any]]:
    return [{"sku": f"s{n}", "image": f"{n}.png"} for n in range(count)]


def test_touched_images_are_no_churn_and_no_changed_input(shop: Mill) -> None:
    before = shop.live()
    run = shop.indexed()
    verdict = verdicts_on(run)["churn"]
    assert verdict.passed
    assert verdict.found == 0.0
    assert "10 more have images of another name or time, and of the same content" in verdict.message
    assert run.run().computed == 0
    found = diff_releases(before, shop.live())
    assert (found.input_changed.count, found.same_content, found.unchanged) == (0, COUNT, COUNT)


def test_images_that_did_change_and_items_that_went_count_beside_them(shop: Mill) -> None:
    before = shop.live()
    for number in (0, 1):
        picture(shop, number).write_bytes(png(100 + number))
    run = shop.indexed(rows(COUNT - 1))
    verdict = verdicts_on(run)["churn"]
    assert not verdict.passed
    assert verdict.found == pytest.approx(0.3)
    assert "3 of 10 live items" in verdict.message
    run.run(accept=["churn"])
    found = diff_releases(before, shop.live())
    assert (found.input_changed.count, found.removed.count, found.unchanged) == (2, 1, COUNT - 3)


def test_an_item_that_got_the_image_of_another_has_changed(shop: Mill) -> None:
    """Its vector is there, too, and is copied; but it is not the one that the item had."""
    for number in range(COUNT):
        picture(shop, number).write_bytes(png((number + 1) % COUNT))
    run = shop.indexed()
    verdict = verdicts_on(run)["churn"]
    assert (verdict.passed, verdict.found) == (False, 1.0)
    assert run.run(accept=["churn"]).computed == 0
