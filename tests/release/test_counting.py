"""A release counts what it has: items that workers refused are in its quarantine and in no other count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.gates.test_gates import verdicts_on
from tests.models import tiny_image_package
from tests.support.mill import OPEN_GATES, Mill
from tests.support.shop import png

from embedmill import Release
from embedmill.release.describe import describe_release


@pytest.fixture
def shop(mill: Mill, tmp_path: Path) -> Mill:
    mill.model = tiny_image_package(tmp_path / "images-model")
    mill.settings = {"catalog": {"source": "items.parquet", "id": "sku", "images": "pictures"}}
    (mill.root / "pictures").mkdir()
    return mill


def rows(kind: pa.DataType, *pictures: bytes | None, mill: Mill) -> list[dict[str, Any]]:
    """An item for each picture; None has a reference that leads nowhere."""
    mill.schema = pa.schema([("sku", kind), ("image", pa.string())])
    found = []
    for number, content in enumerate(pictures):
        if content is not None:
            (mill.root / "pictures" / f"{number}.png").write_bytes(content)
        sku = str(number) if kind == pa.string() else number
        found.append({"sku": sku, "image": f"{number}.png" if content is not None else f"no-{number}.png"})
    return found


def adds_up(release: Release) -> None:
    counts = release.content.counts
    there = counts.new + counts.changed + counts.unchanged
    assert there + counts.quarantined == counts.total
    assert there == release.item_count == sum(len(batch) for batch in release.items())
    assert counts.quarantined == release.content.quarantined == release.content.quarantine.rows
    prints = [each for batch in release.items() for each in batch.column("_fingerprint").to_pylist()]
    assert counts.duplicates == len(prints) - len(set(prints))


@pytest.mark.parametrize("kind", [pa.string(), pa.int64(), pa.int32()], ids=str)
def test_what_workers_refused_is_new_changed_and_unchanged_no_more(shop: Mill, kind: pa.DataType) -> None:
    shop.run(rows(pa.int64() if kind == pa.int32() else kind, *map(png, range(6)), mill=shop))
    first = shop.live()
    assert first.content.counts.new == 6
    adds_up(first)
    today = rows(kind, png(0), png(1), b"broken", None, png(40), png(5), b"broken", png(7), mill=shop)
    # unchanged, but for two files that were written anew: their times are others
    report = shop.run(today)
    adds_up(release := shop.live())
    counts = release.content.counts
    assert (counts.total, counts.quarantined, counts.new, counts.deleted) == (8, 3, 1, 0)
    assert (counts.changed + counts.unchanged, report.quarantined) == (4, 3)
    assert "items=5" in repr(release)
    assert describe_release(shop.home, None, quarantined=0).counts == counts
    page = (release.folder / "report.html").read_text()
    assert "<td>quarantined</td><td class='n'>3</td>" in page
    assert "<td>new</td><td class='n'>1</td>" in page


def test_an_unchanged_item_that_another_model_refuses_is_quarantined_alone(
    shop: Mill, tmp_path: Path
) -> None:
    """What the model sees of it is the same, and a smaller limit of pixels refuses it."""
    shop.run(rows(pa.string(), *map(png, range(4)), mill=shop))
    shop.model = tiny_image_package(tmp_path / "other", seed=3)
    (shop.root / "pictures" / "2.png").unlink()
    run = shop.worked()
    planned = run.plan.items
    run.run()
    adds_up(shop.live())
    assert (planned.unchanged, planned.changed) == (3, 1)
    assert shop.live().content.counts.unchanged == 3
    assert shop.live().content.counts.changed == 0


def test_live_items_that_are_quarantined_now_are_churn(shop: Mill) -> None:
    shop.settings["gates"] = OPEN_GATES | {"churn": 0.3}
    shop.run(rows(pa.string(), *map(png, range(4)), mill=shop))
    for number in (1, 3):
        (shop.root / "pictures" / f"{number}.png").write_bytes(b"broken")
    verdict = verdicts_on(shop.indexed())["churn"]
    assert not verdict.passed
    assert verdict.found == pytest.approx(0.5)
    assert "2 of 4 live items are deleted, changed or quarantined (2)" in verdict.message
