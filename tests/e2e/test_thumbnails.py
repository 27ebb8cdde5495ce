"""Thumbnails of a catalog's images: made once, carried with the vectors, and of no consequence for them."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image
from tests.models import tiny_image_package, tiny_mixed_package
from tests.support.mill import Mill, items, undo

from embedmill import Release
from embedmill.errors import ReleaseCorrupt, ReleaseMissing
from embedmill.release.layout import Home
from embedmill.release.transfer import copy_release
from embedmill.store import open_store
from embedmill.work import WorkerOptions, work

COLOURS = {"red": (200, 10, 10), "green": (10, 200, 10), "blue": (10, 10, 200), "grey": (90, 90, 90)}


@pytest.fixture
def gallery(mill: Mill, tmp_path: Path) -> Mill:
    mill.model = tiny_image_package(tmp_path / "images-model")
    mill.schema = pa.schema([("sku", pa.string()), ("image", pa.binary())])
    return wanted(mill, 16)


def wanted(mill: Mill, side: int | None) -> Mill:
    catalog = {"source": "items.parquet", "id": "sku"} | ({"thumbnails": side} if side else {})
    mill.settings = {"catalog": catalog, "compact_above": 1.0, "work": {"shard_rows": 2}}
    return mill


def png(colour: tuple[int, int, int], size: tuple[int, int] = (40, 20)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, "PNG")
    return stream.getvalue()


def rows(names: Iterable[str] = COLOURS) -> list[dict[str, object]]:
    return [{"sku": name, "image": png(COLOURS[name])} for name in names]


def prints(release: Release) -> dict[str, bytes]:
    return {row["id"]: row["_fingerprint"] for batch in release.items() for row in batch.to_pylist()}


def shown(release: Release, sku: str) -> Image.Image | None:
    found = release.thumbnail(sku)
    return None if found is None else Image.open(io.BytesIO(found), formats=["JPEG"])


def is_like(image: Image.Image | None, colour: tuple[int, int, int]) -> bool:
    assert image is not None
    middle = image.getpixel((image.width // 2, image.height // 2))
    assert isinstance(middle, tuple)
    return all(abs(a - b) <= 8 for a, b in zip(middle, colour, strict=True))


def all_are_shown(release: Release, names: Iterable[str] = COLOURS) -> bool:
    return all(is_like(shown(release, name), COLOURS[name]) for name in names)


def test_a_release_shows_each_items_image_small_and_whole(gallery: Mill) -> None:
    gallery.run([*rows(), {"sku": "nothing"}, {"sku": "bad", "image": b"no image"}])
    release = gallery.live()
    assert all_are_shown(release)
    small = shown(release, "red")
    assert small is not None
    assert small.size == (16, 8)
    assert release.thumbnail("nothing") is None
    with pytest.raises(ReleaseMissing):
        release.thumbnail("bad")


def test_a_thumbnail_is_found_by_fingerprint(gallery: Mill) -> None:
    gallery.run(rows())
    release = gallery.live()
    by_print = {name: release.thumbnail(fingerprint=found) for name, found in prints(release).items()}
    assert by_print == {name: release.thumbnail(name) for name in COLOURS}
    assert len(set(by_print.values())) == len(COLOURS)
    assert release.thumbnail(fingerprint=bytes(16)) is None
    with pytest.raises(ValueError, match="16 bytes"):
        release.thumbnail(fingerprint=b"short")
    with pytest.raises(ValueError, match="exactly one"):
        release.thumbnail()


def test_thumbnails_move_no_vector_and_no_content_digest(gallery: Mill, tmp_path: Path) -> None:
    gallery.run(rows())
    (tmp_path / "without").mkdir()
    without = wanted(Mill(tmp_path / "without", gallery.model, gallery.schema), None)
    without.run(rows())
    assert gallery.live().content.content_digest == without.live().content.content_digest
    assert without.live().thumbnail("red") is None
    assert not (without.live().folder / "thumbnails").exists()


def test_they_are_carried_unread_and_compacted_with_their_vectors(gallery: Mill) -> None:
    gallery.run(rows(["red", "green", "blue"]))
    first = gallery.live()
    gallery.run(rows(["green", "blue", "grey"]))
    second = gallery.live()
    assert all_are_shown(second, ["green", "blue", "grey"])
    for entry in first.content.segments[0].thumbnails:
        assert (second.folder / entry.path).samefile(first.folder / entry.path)
    gone = prints(first)["red"]
    assert second.thumbnail(fingerprint=gone) is not None
    gallery.settings["compact_above"] = 0.0
    result = gallery.run(rows(["green", "grey"]))
    assert (result.compacted, result.computed) == (True, 0)
    third = gallery.live()
    (segment,) = third.content.segments
    assert sum(entry.rows or 0 for entry in segment.thumbnails) == 2
    assert all_are_shown(third, ["green", "grey"])
    assert third.thumbnail(fingerprint=gone) is None


def test_a_vector_from_before_has_none_until_it_is_computed_again(gallery: Mill) -> None:
    wanted(gallery, None).run(rows(["red", "green"]))
    result = wanted(gallery, 32).run(rows(["red", "green", "blue"]))
    assert result.computed == 1
    release = gallery.live()
    assert release.thumbnail("red") is None
    assert is_like(shown(release, "blue"), COLOURS["blue"])
    gallery.settings["compact_above"] = 0.0
    gallery.run(rows(["red", "blue"]))
    assert gallery.live().thumbnail("red") is None
    assert is_like(shown(gallery.live(), "blue"), COLOURS["blue"])


def test_they_are_taken_over_from_a_run_that_was_never_published(gallery: Mill) -> None:
    gallery.worked(rows(["red", "green", "blue"]))
    result = gallery.run(rows())
    assert result.computed == 1
    assert all_are_shown(gallery.live())


def test_a_copy_of_the_release_has_them_and_damage_is_found(gallery: Mill, tmp_path: Path) -> None:
    gallery.run(rows())
    target = Home(open_store(str(tmp_path / "copy")), "test")
    copy_release(gallery.home, gallery.live().name, target)
    release = Release.open(tmp_path / "copy" / target.release_key(gallery.live().name))
    assert all_are_shown(release)
    file = release.folder / release.content.segments[0].thumbnails[0].path
    file.chmod(0o644)
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(ReleaseCorrupt, match="thumbnails"):
        Release.open(release.folder)


def test_only_the_attempt_that_won_leaves_thumbnails(gallery: Mill) -> None:
    run = gallery.planned(rows())
    folder = Path(run.home.store.url) / run.home.release_key(run.plan.run, "thumbnails")
    work(run.home, run.plan.run, WorkerOptions("first"))
    shard = run.plan.shards[0].name
    record = run.home.store.get(run.home.run_key(run.plan.run, "commits", f"{shard}.json"))
    undo(run, shard)
    work(run.home, run.plan.run, WorkerOptions("second"))
    assert run.home.store.get(run.home.run_key(run.plan.run, "commits", f"{shard}.json")) != record
    assert len(list(folder.rglob("*.arrow"))) == len(run.plan.shards) + 1
    run.run()
    assert len(list(folder.rglob("*.arrow"))) == len(run.plan.shards)
    assert all_are_shown(gallery.live())


def test_a_model_of_texts_has_none_and_one_of_both_has_those_of_its_images(
    mill: Mill, tmp_path: Path
) -> None:
    texts = mill.settings
    mill.settings = texts | {"catalog": {"source": "items.parquet", "id": "sku", "thumbnails": 16}}
    mill.run(items(3))
    assert mill.live().thumbnail("s1") is None
    mill.model = tiny_mixed_package(tmp_path / "mixed")
    mill.schema = pa.schema([("sku", pa.string()), ("title", pa.string()), ("image", pa.binary())])
    mill.run([{"sku": "s1", "title": "red", "image": png(COLOURS["red"])}, {"sku": "s2", "title": "blue"}])
    assert is_like(shown(mill.live(), "s1"), COLOURS["red"])
    assert mill.live().thumbnail("s2") is None
