"""A run that a gate stopped for its images is planned anew once they are there, and not before."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.models import tiny_image_package
from tests.support.mill import Mill, items, quarantined
from tests.support.shop import png
from tests.support.web import answer, web_server

from embedmill.errors import GateFailed, ReleaseCorrupt, StoreDenied, StoreError, StoreUnavailable
from embedmill.planning.mended import MOST
from embedmill.release.layout import Home
from embedmill.release.runs import terminal_of
from embedmill.store import ObjectInfo
from embedmill.store.local import LocalStore

COUNT = 12


@pytest.fixture
def shop(mill: Mill, tmp_path: Path) -> Mill:
    """Twelve pictures in a folder, and a gate that lets no item go."""
    mill.model = tiny_image_package(tmp_path / "images-model")
    mill.schema = pa.schema([("sku", pa.int64()), ("image", pa.string()), ("seen", pa.string())])
    mill.settings = {
        "catalog": {"source": "items.parquet", "id": "sku", "images": "pictures"},
        "gates": {"quarantine": 0.0},
    }
    (mill.root / "pictures").mkdir()
    for number in range(COUNT):
        picture(mill, number).write_bytes(png(number))
    mill.write([{"sku": n, "image": f"{n}.png", "seen": "v1"} for n in range(COUNT)])
    return mill


def picture(mill: Mill, number: int) -> Path:
    return mill.root / "pictures" / f"{number}.png"


def stopped(mill: Mill) -> str:
    """The run that the gate stopped."""
    run = mill.worked()
    with pytest.raises(GateFailed, match="quarantine"):
        run.run()
    return run.plan.run


def take_away(mill: Mill, number: int) -> None:
    picture(mill, number).unlink()


def damage(mill: Mill, number: int) -> None:
    picture(mill, number).write_bytes(b"broken")


def empty(mill: Mill, number: int) -> None:
    picture(mill, number).write_bytes(b"")


def in_two_parts(mill: Mill, number: int) -> None:
    """Cut short, as by a copy that broke off."""
    picture(mill, number).write_bytes(png(number)[:60])


@pytest.mark.parametrize("harm", [take_away, damage, empty, in_two_parts])
def test_pictures_that_are_mended_are_planned_and_the_rest_is_taken_over(shop: Mill, harm: Any) -> None:
    for number in (3, 7):
        harm(shop, number)
    first = stopped(shop)
    for number in (3, 7):
        picture(shop, number).write_bytes(png(number))
    run = shop.worked()
    assert run.plan.run != first
    assert run.outlived == {first: "a gate stopped it, and images that it lacks changed since"}
    result = run.run()
    assert (result.computed, result.embedded + result.reused, result.quarantined) == (2, COUNT, 0)


def test_one_of_them_is_enough_and_the_next_verdict_is_of_what_is_left(shop: Mill) -> None:
    for number in (3, 7):
        damage(shop, number)
    first = stopped(shop)
    picture(shop, 7).write_bytes(png(7))
    second = stopped(shop)
    assert second != first
    assert shop.planned().plan.run == second
    picture(shop, 3).write_bytes(png(3))  # which the second run knew to be refused, and did not try again
    third = shop.worked()
    assert third.plan.run not in {first, second}
    assert third.run().quarantined == 0


def test_a_folder_that_was_not_mounted_is_noticed_once_it_is(shop: Mill) -> None:
    away = (shop.root / "pictures").rename(shop.root / "away")
    (shop.root / "pictures").mkdir()  # as an empty mount point
    first = stopped(shop)
    assert shop.planned().plan.run == first
    (shop.root / "pictures").rmdir()
    assert shop.planned().plan.run == first  # nothing can be said of pictures without a folder
    away.rename(shop.root / "pictures")
    assert shop.worked().run().embedded == COUNT


def test_what_nobody_mended_goes_on_and_may_be_accepted(shop: Mill) -> None:
    damage(shop, 3)
    take_away(shop, 4)
    first = stopped(shop)
    picture(shop, 5).touch()  # another one, which the candidate has
    assert stopped(shop) == first
    run = shop.planned()
    assert run.plan.run == first
    assert run.run(accept=["quarantine"]).quarantined == 2
    assert {row["id"]: row["reason"] for row in quarantined(shop.live())} == {
        "3": "image-invalid",
        "4": "image-missing",
    }


def test_a_picture_that_could_not_be_read_is_noticed_once_it_can(shop: Mill) -> None:
    """Only versions of the catalog identify it, so nothing else says that it is there now."""
    shop.settings["catalog"] |= {"image_identity": "version", "image_version": "seen"}
    kept = picture(shop, 3).rename(shop.root / "kept.png")
    first = stopped(shop)
    assert shop.planned().plan.run == first
    shutil.move(kept, picture(shop, 3))
    run = shop.worked()
    assert run.plan.run != first
    assert run.run().embedded + run.plan.reused_vectors == COUNT


def test_of_many_pictures_that_cannot_be_had_some_are_asked_for_evenly(shop: Mill) -> None:
    """A host that is gone is asked for a bounded number of them, and one that is back is noticed."""
    count, paths = 2 * MOST + 100, "/{}.png"
    with web_server() as web:
        shop.settings["catalog"] |= {
            "image_identity": "version",
            "image_version": "seen",
            "fetch": {"allow": [web.host]},
        }
        web.paths[paths.format(0)] = answer(png(0))
        shop.write([{"sku": n, "image": web.url(paths.format(n)), "seen": "v1"} for n in range(count)])
        first = stopped(shop)
        web.forget()
        assert shop.planned().plan.run == first
        asked = [number for number in range(count) if web.asked["GET", paths.format(number)]]
        assert MOST // 2 <= len(asked) <= MOST
        assert asked[0] <= 4
        assert count - asked[-1] <= 4
        assert {after - before for before, after in itertools.pairwise(asked)} <= {1, 2, 3, 4}
        web.paths[paths.format(asked[-1])] = answer(png(1))
        assert shop.planned().plan.run != first


def test_resume_goes_on_as_it_was_planned(shop: Mill) -> None:
    take_away(shop, 3)
    first = stopped(shop)
    picture(shop, 3).write_bytes(png(3))
    assert shop.open().open_run().plan.run == first


def test_a_run_of_texts_that_a_gate_stopped_is_not_looked_at(mill: Mill) -> None:
    mill.settings = {"gates": {"quarantine": 0.0}}
    run = mill.checked([*items(3), {"title": "no id"}])
    assert mill.planned().plan.run == run.plan.run


def quarantine_file(mill: Mill, run: str) -> Path:
    """Where the candidate has the items that were refused."""
    (file,) = (Path(mill.home.store.url) / mill.home.release_key(run, "quarantine")).iterdir()
    file.chmod(0o644)
    return file


def overwrite(file: Path) -> None:
    file.write_bytes(b"x" * file.stat().st_size)


def alter(file: Path) -> None:
    """Into a table that can be read, and is not the one that was written."""
    data = file.read_bytes()
    assert b"parquet-cpp" in data
    file.write_bytes(data.replace(b"parquet-cpp", b"parquet-cqq"))


@pytest.mark.parametrize("harm", [overwrite, alter, Path.unlink])
def test_a_candidate_whose_list_of_refused_items_is_damaged_is_closed_and_outlived(
    shop: Mill, harm: Callable[[Path], None]
) -> None:
    damage(shop, 3)
    first = stopped(shop)
    file = quarantine_file(shop, first)
    harm(file)
    run = shop.planned()
    assert run.plan.run != first
    assert file.name in run.outlived[first]
    closed = terminal_of(shop.home, first)
    assert closed is not None
    assert closed.outcome == "abandon"
    assert run.plan.compute == 0  # what the closed one computed is taken over
    result = shop.open().run(accept=["quarantine"])
    assert (result.release, result.quarantined) == (run.plan.run, 1)


@pytest.mark.parametrize("harm", [overwrite, alter])
def test_a_check_of_a_damaged_list_closes_the_run_that_it_reports(
    mill: Mill, harm: Callable[[Path], None]
) -> None:
    run = mill.checked([*items(3), {"title": "no id"}])
    harm(quarantine_file(mill, run.plan.run))
    with pytest.raises(ReleaseCorrupt, match="quarantine") as raised:
        run.check()
    assert "run again" in raised.value.hint
    assert terminal_of(mill.home, run.plan.run) is not None
    assert mill.run().quarantined == 1


@pytest.mark.parametrize("error", [StoreDenied, StoreUnavailable])
def test_images_that_their_store_does_not_show_give_up_no_run(shop: Mill, error: type[StoreError]) -> None:
    asked = []

    class Refusing(LocalStore):
        """Shows no picture."""

        def head(self, key: str) -> ObjectInfo:
            if key.startswith("pictures/"):
                asked.append(key)
                raise error("not now")
            return super().head(key)

    shop.settings["catalog"] |= {"images": "store:pictures"}
    (shop.root / "mill").mkdir()
    (shop.root / "pictures").rename(shop.root / "mill" / "pictures")
    (shop.root / "mill" / "pictures" / "3.png").write_bytes(b"broken")
    first = stopped(shop)
    pipeline = shop.open()
    vars(pipeline)["home"] = Home(Refusing(shop.root / "mill"), "test")
    assert pipeline.plan().plan.run == first
    assert asked == ["pictures/3.png"]
