"""An upgrade that moves goldens starts a new numerics epoch; one that does not recomputes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime
import pyarrow as pa
import pytest
from tests.cli.terminal import Said, run_alone
from tests.e2e.test_images import picture
from tests.models import tiny_image_package, tiny_text_package
from tests.support import upgrades
from tests.support.mill import Mill, items

from embedmill.release.admin import rollback, unhold
from embedmill.release.layout import Home
from embedmill.release.log import read_history
from embedmill.release.numerics import differences, numerics_of
from embedmill.spec.documents import Content, Numerics
from embedmill.work import WorkerOptions, work

Environment = dict[str, str]
NOW = onnxruntime.__version__


@pytest.fixture
def harmless(tmp_path: Path) -> Environment:
    """A newer runtime whose vectors are off by less than the tolerance."""
    return upgrades.onnxruntime(tmp_path / "harmless", "99.1.0", shift=1e-5)


@pytest.fixture
def moving(tmp_path: Path) -> Environment:
    """A newer runtime that computes other vectors."""
    return upgrades.onnxruntime(tmp_path / "moving", "99.2.0", shift=0.2)


@pytest.fixture
def moving_again(tmp_path: Path) -> Environment:
    return upgrades.onnxruntime(tmp_path / "moving-again", "99.3.0", shift=-0.3)


def command(mill: Mill, verb: str, environment: Environment, *options: str, code: int = 0) -> Any:
    """What a command reports, run in a process of its own with these libraries."""
    said = alone(mill, verb, environment, "--json", *options)
    assert said.code == code, said
    return said.json


def alone(mill: Mill, verb: str, environment: Environment, *options: str) -> Said:
    file = mill.root / "pipeline.yaml"
    return run_alone(*verb.split(), file, *options, **environment)


def content(mill: Mill) -> Content:
    return mill.live().content


def worker(mill: Mill, environment: Environment, run: str) -> Said:
    return run_alone("worker", "--run", f"{mill.home.url}/runs/{run}", "--name", "other", **environment)


def test_an_upgrade_that_moves_nothing_recomputes_nothing_and_is_asked_once(
    mill: Mill, harmless: Environment
) -> None:
    mill.run(items(40))
    planned = command(mill, "plan", harmless)
    assert planned["compute"] == 0
    assert planned["numerics"].startswith(f"onnxruntime {NOW} -> 99.1.0: goldens stay, lowest cosine ")
    assert planned["numerics"].endswith("; vectors are kept")
    report = command(mill, "run", harmless)
    assert (report["computed"], report["reused"], report["epoch"]) == (0, 40, 0)
    assert report["numerics"] == planned["numerics"]
    again = command(mill, "run", harmless)
    assert (again["computed"], again["numerics"]) == (0, "")
    versions = {stack.runtime_version for stack in content(mill).numerics.stacks}
    assert versions == {NOW, "99.1.0"}


def test_an_upgrade_that_moves_goldens_recomputes_everything_once_and_says_why(
    mill: Mill, moving: Environment
) -> None:
    mill.run(items(40))
    before = content(mill)
    said = alone(mill, "plan", moving)
    planned = command(mill, "plan", moving)
    assert (planned["compute"], planned["reused"], planned["epoch"]) == (40, 0, 1)
    why = f"numerics epoch 0 -> 1: onnxruntime {NOW} -> 99.2.0: goldens moved, lowest cosine 0."
    assert planned["numerics"].startswith(why)
    assert planned["why"] == f"{planned['numerics']}, so every vector is new"
    assert why in " ".join(said.out.split())
    report = command(mill, "run", moving)
    assert (report["computed"], report["reused"], report["epoch"]) == (40, 0, 1)
    assert report["numerics"] == planned["numerics"]
    after = content(mill)
    assert after.encoder_digest != before.encoder_digest
    assert after.package_digest == before.package_digest
    assert len(after.segments) == 1
    again = command(mill, "run", moving)
    assert (again["computed"], again["reused"], again["epoch"], again["numerics"]) == (0, 40, 1, "")
    mill.write(items(43))
    assert command(mill, "run", moving)["computed"] == 3


def test_the_old_libraries_do_not_go_on_in_the_new_epoch(mill: Mill, moving: Environment) -> None:
    mill.run(items(8))
    command(mill, "run", moving)
    report = mill.run()
    assert (report.computed, report.epoch) == (8, 2)
    assert f"onnxruntime 99.2.0 -> {NOW}: goldens moved" in report.numerics


def test_a_run_that_was_planned_before_the_upgrade_is_not_gone_on_with(
    mill: Mill, moving: Environment, harmless: Environment
) -> None:
    mill.run(items(8))
    left = mill.worked(items(20))
    planned = command(mill, "plan", harmless)
    assert (planned["run"], planned["resumed"]) == (left.plan.run, True)
    planned = command(mill, "plan", moving)
    assert planned["compute"] == 20
    why = planned["outlived"][left.plan.run]
    assert "the numerics are not those that it was planned with (onnxruntime" in why
    report = command(mill, "run", moving)
    assert (report["computed"], report["reused"], report["epoch"]) == (20, 0, 1)


def test_what_a_first_run_had_finished_before_the_upgrade_is_not_mixed_in(
    mill: Mill, moving: Environment
) -> None:
    left = mill.worked(items(20))
    report = command(mill, "run", moving)
    assert report["release"] != left.plan.run
    assert (report["computed"], report["reused"]) == (20, 0)


def test_resume_after_the_upgrade_ends_and_says_what_to_do(mill: Mill, moving: Environment) -> None:
    mill.run(items(8))
    mill.planned(items(20))
    said = alone(mill, "resume", moving, "--quiet")
    assert said.code == 75
    (line,) = said.err.splitlines()
    assert f"onnxruntime {NOW} -> 99.2.0: goldens moved" in line
    assert "once all are upgraded, `embedmill run " in line


@pytest.mark.parametrize("first", [True, False], ids=["first run", "later run"])
def test_a_worker_whose_libraries_move_goldens_refuses_before_its_first_shard(
    mill: Mill, moving: Environment, first: bool
) -> None:
    if not first:
        mill.run(items(8))
    run = mill.planned(items(20)).plan.run
    said = worker(mill, moving, run)
    assert said.code == 75
    (line,) = said.err.splitlines()
    assert f"onnxruntime {NOW} -> 99.2.0: goldens moved, lowest cosine 0." in line
    assert "install the versions that it was planned with" in line
    assert not list(mill.home.store.list(mill.home.run_key(run, "commits")))
    work(mill.home, run, WorkerOptions("as planned"))
    assert mill.open().run().epoch == 0


def test_a_worker_whose_libraries_move_nothing_works_and_is_known_from_then_on(
    mill: Mill, harmless: Environment
) -> None:
    run = mill.planned(items(20)).plan.run
    assert worker(mill, harmless, run).code == 0
    mill.open().run()
    assert {stack.runtime_version for stack in content(mill).numerics.stacks} == {NOW, "99.1.0"}
    assert command(mill, "run", harmless)["numerics"] == ""


def test_a_release_that_recorded_no_stack_is_compared_by_its_profiles(mill: Mill) -> None:
    mill.run(items(8))
    recorded = content(mill)
    older = recorded.model_copy(update={"numerics": Numerics()})
    assert numerics_of(older).stacks == recorded.numerics.stacks
    silent = older.model_copy(update={"profiles": ()})
    assert differences(numerics_of(silent).stacks, recorded.numerics.stacks[0]) == (
        "what computed the vectors is not recorded"
    )


def test_an_epoch_is_not_used_twice_after_a_rollback(
    mill: Mill, moving: Environment, moving_again: Environment
) -> None:
    mill.run(items(8))
    first = content(mill).release
    second = command(mill, "run", moving)["release"]
    rolled_back(mill, first)
    third = command(mill, "run", moving_again)
    assert (third["computed"], third["epoch"]) == (8, 2)
    rolled_back(mill, second)
    back = command(mill, "run", moving)
    assert (back["computed"], back["epoch"], back["numerics"]) == (0, 1, "")
    assert epochs(mill.home) == [0, 1, 2, 1]


def rolled_back(mill: Mill, release: str) -> None:
    rollback(mill.home, release)
    unhold(mill.home)


def epochs(home: Home) -> list[int]:
    entries = [entry for entry in read_history(home).entries if entry.kind == "publish"]
    return [
        home.read(Content, home.release_key(entry.release, "CONTENT.json")).numerics.epoch
        for entry in entries
    ]


def test_another_model_stays_in_the_epoch_and_needs_no_comparison(mill: Mill, moving: Environment) -> None:
    mill.run(items(8))
    command(mill, "run", moving)
    mill.model = tiny_text_package(mill.root / "other", seed=1)
    mill.open()
    report = command(mill, "run", moving)
    assert (report["computed"], report["epoch"], report["numerics"]) == (8, 1, "")


def test_pixels_that_move_start_an_epoch_too(mill: Mill, tmp_path: Path) -> None:
    mill.model = tiny_image_package(tmp_path / "images")
    mill.schema = pa.schema([("sku", pa.string()), ("image", pa.binary())])
    mill.settings["catalog"] = {"source": "items.parquet", "id": "sku"}
    mill.run([{"sku": f"s{n}", "image": picture(n)} for n in range(8)])
    report = command(mill, "run", upgrades.pillow(tmp_path / "pillow", "99.0.0"))
    assert (report["computed"], report["epoch"]) == (8, 1)
    assert "numerics epoch 0 -> 1: pillow " in report["numerics"]
    assert " -> 99.0.0: goldens moved" in report["numerics"]


def test_a_planner_that_cannot_compute_says_that_it_compared_nothing(mill: Mill) -> None:
    mill.run(items(8))
    folder = mill.root / "path"
    folder.mkdir()
    (folder / "onnxruntime.py").write_text("raise ModuleNotFoundError(name='onnxruntime')\n")
    planned = command(mill, "plan", {"PYTHONPATH": str(folder)})
    assert planned["compute"] == 0
    assert planned["numerics"] == (
        "goldens were not compared: ONNX Runtime is not installed (pip install 'embedmill[onnx]'); "
        "workers compare them"
    )
