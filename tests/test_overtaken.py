"""Two runs that plan at the same time: what the one does that is second to publish."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from tests.models import tiny_image_package
from tests.support.mill import Mill, items
from tests.support.shop import png

from embedmill.errors import Held
from embedmill.release.admin import rollback
from embedmill.release.log import read_history
from embedmill.spec.reports import RunReport
from embedmill.types import Progress


def overtaken(mill: Mill, by: Callable[[], object]) -> tuple[RunReport, list[str]]:
    """Run, while something else happens between the read of the catalog and the plan; what was said."""
    notes: list[str] = []
    waiting = [by]

    def hear(progress: Progress) -> None:
        if progress.note:
            notes.append(progress.note)
        elif progress.stage == "plan" and waiting:
            waiting.pop()()

    return mill.open().run(on_progress=hear), notes


def numbers(mill: Mill) -> list[int]:
    return [release.number for release in read_history(mill.home).published()]


def test_of_two_plans_of_one_catalog_one_is_published_and_both_have_it(mill: Mill) -> None:
    mill.write(items(12))
    first: list[RunReport] = []
    second, notes = overtaken(mill, lambda: first.append(mill.run()))
    assert numbers(mill) == [1]
    assert (second.release, second.number, second.total) == (first[0].release, 1, 12)
    said = f"another run published release {second.release} (number 1) meanwhile, of the same catalog"
    assert notes == [f"{said}: nothing is left to do"]


@pytest.mark.parametrize("changed", ["catalog", "spec"])
def test_a_run_of_another_catalog_or_spec_is_published_on_top(mill: Mill, changed: str) -> None:
    mill.write(items(12))

    def other() -> None:
        if changed == "catalog":
            mill.run(items(13))
            mill.write(items(14))
        else:
            mill.settings = {"goldens": 8}
            mill.run()

    second, notes = overtaken(mill, other)
    assert numbers(mill) == [1, 2]
    assert second.number == 2
    assert [note for note in notes if "published release" in note and "(number 1)" in note] == notes
    assert notes[0].endswith("meanwhile; planning again, on top of it")


def test_what_was_rolled_back_meanwhile_is_not_taken_for_done(mill: Mill) -> None:
    mill.run(items(3))
    mill.write(items(12))

    def other() -> None:
        mill.run()
        rollback(mill.home, "1")

    with pytest.raises(Held):
        overtaken(mill, other)


def test_a_second_run_of_an_unchanged_catalog_publishes_again_and_computes_nothing(mill: Mill) -> None:
    mill.run(items(3))
    again = mill.run()
    assert (again.number, again.computed, again.reused) == (2, 0, 3)


def test_what_was_published_without_a_picture_that_this_plan_has_is_not_taken_for_done(
    mill: Mill, tmp_path: Path
) -> None:
    """The catalog's files are the same: they only name the pictures."""
    mill.model = tiny_image_package(tmp_path / "images-model")
    mill.schema = pa.schema([("sku", pa.int64()), ("image", pa.string())])
    mill.settings["catalog"] = {"source": "items.parquet", "id": "sku", "images": "pictures"}
    mill.write([{"sku": n, "image": f"{n}.png"} for n in range(6)])
    folder = mill.root / "pictures"
    folder.mkdir()
    for number in range(6):
        (folder / f"{number}.png").write_bytes(png(number))
    first: list[RunReport] = []

    def other() -> None:
        """It plans while one picture is away, and publishes."""
        away = (folder / "3.png").rename(mill.root / "away.png")
        first.append(mill.run())
        away.rename(folder / "3.png")

    second, notes = overtaken(mill, other)
    assert (first[0].quarantined, second.quarantined) == (1, 0)
    assert numbers(mill) == [1, 2]
    assert notes[0].endswith("meanwhile; planning again, on top of it")
