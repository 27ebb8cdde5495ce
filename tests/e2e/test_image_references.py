"""Pictures by reference: what changes or vanishes between plan and work is quarantined, and it alone."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image
from tests.models import tiny_image_package, tiny_mixed_package
from tests.support.mill import Mill, quarantined

from embedmill.work import WorkerOptions, work

COLOURS = ["red", "green", "blue", "white"]


def write_picture(file: Path, colour: str, side: int = 32) -> None:
    out = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(out, "PNG")
    file.write_bytes(out.getvalue())


@pytest.fixture
def gallery(mill: Mill, tmp_path: Path) -> Mill:
    """A picture of each colour in a folder, by its file's name."""
    mill.model = tiny_image_package(tmp_path / "images-model")
    mill.schema = pa.schema([("sku", pa.string()), ("image", pa.string())])
    mill.settings = {"catalog": {"source": "items.parquet", "id": "sku", "images": "pictures"}}
    (mill.root / "pictures").mkdir()
    for colour in COLOURS:
        write_picture(picture(mill, colour), colour)
    return mill


def picture(mill: Mill, colour: str) -> Path:
    return mill.root / "pictures" / f"{colour}.png"


def rows(*colours: str) -> list[dict[str, str | None]]:
    return [{"sku": colour, "image": f"{colour}.png"} for colour in colours]


def reasons(mill: Mill) -> dict[str, str]:
    return {row["id"]: row["reason"] for row in quarantined(mill.live())}


def test_pictures_are_found_below_their_folder_and_reused_while_unchanged(gallery: Mill) -> None:
    assert gallery.run(rows(*COLOURS)).computed == 4
    assert gallery.live().search(item="red", k=1)[0].id == "red"
    result = gallery.run(rows(*COLOURS[:3]))
    assert (result.computed, result.reused) == (0, 3)
    write_picture(picture(gallery, "red"), "black", side=40)
    assert gallery.run().computed == 1


def test_a_picture_that_is_not_there_is_quarantined_and_embedded_once_it_comes(gallery: Mill) -> None:
    picture(gallery, "blue").unlink()
    result = gallery.run(rows(*COLOURS))
    assert (result.computed, result.quarantined) == (3, 1)
    assert reasons(gallery) == {"blue": "image-missing"}
    write_picture(picture(gallery, "blue"), "blue")
    result = gallery.run(rows(*COLOURS))
    assert (result.computed, result.reused, result.quarantined) == (1, 3, 0)


@pytest.mark.parametrize(("change", "reason"), [("other bytes", "source-changed"), ("gone", "image-missing")])
def test_a_picture_that_changed_between_plan_and_work_is_quarantined(
    gallery: Mill, change: str, reason: str
) -> None:
    run = gallery.planned(rows(*COLOURS))
    if change == "gone":
        picture(gallery, "green").unlink()
    else:
        write_picture(picture(gallery, "green"), "yellow", side=48)
    done = work(run.home, run.plan.run, WorkerOptions("w"))
    assert (done.vectors, done.rejected) == (3, 1)
    result = run.run()
    assert (result.embedded, result.quarantined) == (3, 1)
    assert reasons(gallery) == {"green": reason}
    undisturbed = dict(zip(*gallery.live().to_numpy(), strict=True))
    write_picture(picture(gallery, "green"), "green")
    gallery.run(rows(*COLOURS))
    for sku, vector in zip(*gallery.live().to_numpy(), strict=True):
        assert sku == "green" or vector.tobytes() == undisturbed[sku].tobytes()


def test_a_reference_that_leads_out_of_the_folder_is_quarantined_unread(gallery: Mill) -> None:
    write_picture(gallery.root / "secret.png", "red")
    result = gallery.run([*rows("red"), {"sku": "spy", "image": "../secret.png"}, {"sku": "none"}])
    assert (result.embedded, result.empty, result.quarantined) == (1, 1, 1)
    assert set(reasons(gallery)) == {"spy"}


def test_two_references_to_one_picture_are_two_contents_unless_they_are_equal(gallery: Mill) -> None:
    again = [{"sku": "red again", "image": "red.png"}]
    result = gallery.run([*rows(*COLOURS), *again])
    assert (result.computed, result.embedded) == (4, 5)


def test_texts_and_pictures_together_need_only_one_of_them(gallery: Mill, tmp_path: Path) -> None:
    gallery.model = tiny_mixed_package(tmp_path / "mixed")
    gallery.schema = pa.schema([*gallery.schema, ("title", pa.string())])
    found = [
        {"sku": "both", "image": "red.png", "title": "red"},
        {"sku": "text", "title": "red"},
        {"sku": "picture", "image": "red.png"},
        {"sku": "nothing"},
        {"sku": "lost", "image": "nowhere.png", "title": "red"},
    ]
    result = gallery.run(found)
    assert (result.embedded, result.empty, result.quarantined) == (3, 1, 1)
    vectors = {str(sku): vector.tobytes() for sku, vector in zip(*gallery.live().to_numpy(), strict=True)}
    assert len(set(vectors.values())) == 3
    assert reasons(gallery) == {"lost": "image-missing"}
