"""A long run measures how its machine computes fastest, once; what its plan says of that holds to its end."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.models import tiny_text_package
from tests.support.calibrations import Stepping, planned, remember
from tests.support.mill import Mill, items

from embedmill.errors import ModelError
from embedmill.model import ModelPackage
from embedmill.model.calibration import LIMIT_S
from embedmill.planning import Calibrator
from embedmill.planning.calibrate import SAMPLE_ROWS, processor
from embedmill.planning.shards import FrozenShard
from embedmill.spec.calibration import KeptCalibration
from embedmill.spec.documents import CommitRecord
from embedmill.work import WorkerOptions, work
from embedmill.world import World


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EMBEDMILL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "calibrations"


def test_a_run_is_measured_once_and_its_machine_remembers(mill: Mill, own_cache: Path) -> None:
    mill.write(items(60))
    first = planned(mill.open())
    assert first.calibration is not None
    assert first.calibration.source.startswith("measured 2")
    assert first.calibration.chosen in {each.setting for each in first.calibration.measured}
    assert first.batch_tokens == first.calibration.chosen.batch_tokens
    chosen = remember(own_cache, batch_tokens=77)
    again = planned(mill.open())
    assert again.calibration is not None
    assert again.calibration.chosen == chosen


def test_what_is_remembered_holds_for_short_work_too(mill: Mill, own_cache: Path) -> None:
    mill.write(items(60))
    planned(mill.open())
    chosen = remember(own_cache, batch_tokens=77)
    again = planned(mill.open(), worth_s=1e9)
    assert again.calibration is not None
    assert again.calibration.chosen == chosen


def test_threads_are_remembered_of_this_model_and_runtime_where_the_spec_leaves_them_open(
    mill: Mill, own_cache: Path, tmp_path: Path
) -> None:
    def threads(**work: Any) -> int:
        mill.settings = {"work": {"batch_tokens": 99, **work}}
        pipeline = mill.open()
        return Calibrator(pipeline.spec, World()).remembered_threads(pipeline.package)

    assert threads() == 1
    mill.write(items(60))
    planned(mill.open())
    remember(own_cache, threads=3)
    assert threads() == 3
    assert threads(workers=2) == 1
    assert threads(calibrate=False) == 1
    mill.model = tiny_text_package(tmp_path / "other", seed=1)
    assert threads() == 1


@pytest.mark.parametrize("threads", [1, 3])
def test_a_model_that_was_never_measured_here_is_not_digested_to_know_its_threads(
    mill: Mill, own_cache: Path, tmp_path: Path, threads: int
) -> None:
    """A package with a file that lies elsewhere has no digest."""
    mill.settings = {"work": {"batch_tokens": 99}}
    mill.write(items(60))
    planned(mill.open())
    folder = tiny_text_package(tmp_path / "other", seed=1)
    package = ModelPackage.open(folder)
    (folder / "notes").symlink_to(__file__)
    with pytest.raises(ModelError):
        package.package_digest()
    remember(own_cache, threads=threads)
    assert Calibrator(mill.open().spec, World()).remembered_threads(package) == 1


def test_a_model_that_was_written_to_since_it_was_measured_is_taken_for_another(
    mill: Mill, own_cache: Path, tmp_path: Path
) -> None:
    mill.model = Path(shutil.copytree(mill.model, tmp_path / "own"))
    mill.settings = {"work": {"batch_tokens": 99}}
    mill.write(items(60))
    planned(mill.open())
    remember(own_cache, threads=3)
    pipeline = mill.open()
    calibrator = Calibrator(pipeline.spec, World())
    assert calibrator.remembered_threads(pipeline.package) == 3
    (mill.model / "model.onnx").touch()
    assert calibrator.remembered_threads(pipeline.package) == 1


def test_threads_of_another_version_of_the_runtime_are_not_taken(mill: Mill, own_cache: Path) -> None:
    mill.settings = {"work": {"batch_tokens": 99}}
    mill.write(items(60))
    planned(mill.open())
    remember(own_cache, threads=3)
    (file,) = own_cache.iterdir()
    kept = KeptCalibration.from_bytes(file.read_bytes(), str(file))
    other = kept.model_copy(update={"key": kept.key.model_copy(update={"runtime_version": "0.1"})})
    file.write_bytes(other.to_bytes())
    pipeline = mill.open()
    assert Calibrator(pipeline.spec, World()).remembered_threads(pipeline.package) == 1


def test_longer_texts_are_measured_anew(mill: Mill, own_cache: Path) -> None:
    mill.write(items(30))
    planned(mill.open())
    mill.write({**item, "title": "long " * 40} for item in items(30))
    planned(mill.open())
    assert len(list(own_cache.iterdir())) == 2


@pytest.mark.parametrize(
    ("step_s", "measured", "kept"),
    [(LIMIT_S / 2, True, False), (LIMIT_S * 2, False, True)],
    ids=["cut short", "not even the default"],
)
def test_remembered_is_what_was_tried_to_its_end_or_could_not_be_tried_at_all(
    mill: Mill, own_cache: Path, step_s: float, measured: bool, kept: bool
) -> None:
    mill.settings = {"work": {"workers": 1}}
    mill.write(items(30))
    assert (planned(mill.open(), world=Stepping(step_s)).calibration is not None) == measured
    assert own_cache.exists() == kept
    assert (planned(mill.open()).calibration is not None) == measured


def test_rows_are_taken_from_all_pieces_of_a_shard(tmp_path: Path) -> None:
    file = tmp_path / "00000.arrow"
    pieces = [pa.record_batch({"title": [f"{piece} {row}" for row in range(3)]}) for piece in range(1000)]
    with pa.ipc.new_file(str(file), pieces[0].schema) as writer:
        for piece in pieces:
            writer.write_batch(piece)
    rows = FrozenShard("00000", file, 3000, 0).first_rows(SAMPLE_ROWS)
    assert rows.num_rows == SAMPLE_ROWS
    piece, row = divmod(SAMPLE_ROWS - 1, 3)
    assert rows.column("title")[SAMPLE_ROWS - 1].as_py() == f"{piece} {row}"


def test_what_the_cache_says_is_not_believed_where_it_is_damaged_or_of_something_else(
    mill: Mill, own_cache: Path
) -> None:
    mill.write(items(30))
    planned(mill.open())
    (file,) = own_cache.iterdir()
    remember(own_cache, batch_tokens=77)
    kept = KeptCalibration.from_bytes(file.read_bytes(), str(file))
    other = kept.model_copy(update={"key": kept.key.model_copy(update={"runtime_version": "0.1"})})
    for data in (b"", b"{}", file.read_bytes()[:-9], other.to_bytes()):
        file.write_bytes(data)
        found = planned(mill.open()).calibration
        assert found is not None
        assert found.chosen.batch_tokens != 77


def test_workers_compute_as_the_plan_says_and_so_does_a_resumed_run(mill: Mill, own_cache: Path) -> None:
    mill.write(items(30))
    planned(mill.open())
    remember(own_cache, batch_tokens=77, sessions=1, threads=2)
    mill.write(items(40))
    plan = planned(mill.open())
    for file in own_cache.iterdir():
        file.unlink()
    mill.settings = {"work": {"calibrate": False}}
    resumed = mill.open().plan()
    assert (resumed.resumed, resumed.plan) == (True, plan)
    places = resumed.pipeline.places(resumed.plan).look(1, ())
    assert [place.threads for place in places.free] == [2]
    work(resumed.home, plan.run, WorkerOptions("w", threads=plan.threads))
    key = resumed.home.run_key(plan.run, "commits", "00000.json")
    profile = resumed.home.read(CommitRecord, key).profile
    assert (profile.batch_tokens, profile.threads) == (77, 2)


@pytest.mark.parametrize(
    "settings",
    [
        {"work": {"calibrate": False}},
        {"work": {"batch_tokens": 300, "workers": 1}},
        {"engine": ["local", "ray"], "ray": {"address": "127.0.0.1:1", "families": {"cpu": {}}}},
    ],
    ids=["not wanted", "all of it is stated", "workers elsewhere, too"],
)
def test_nothing_is_measured_that_is_not_asked_for(
    mill: Mill, own_cache: Path, settings: dict[str, Any]
) -> None:
    mill.settings = settings
    mill.write(items(30))
    plan = planned(mill.open())
    assert plan.calibration is None
    assert (plan.batch_tokens, plan.threads) == (plan.pipeline.work.batch_tokens or 512, 1)
    assert not own_cache.exists()


def test_a_run_that_is_soon_done_is_begun_at_once(mill: Mill, own_cache: Path) -> None:
    assert mill.planned(items(30)).plan.calibration is None
    assert planned(mill.open(), worth_s=1e9).calibration is None
    assert not own_cache.exists()


@pytest.mark.parametrize(
    ("stated", "one_thread"), [({"batch_tokens": 300}, False), ({"workers": 2}, False), ({}, True)]
)
def test_what_the_pipeline_states_is_not_tried_otherwise(
    mill: Mill, own_cache: Path, stated: dict[str, int], one_thread: bool
) -> None:
    mill.settings = {"work": stated}
    mill.write(items(30))
    found = planned(mill.open(), one_thread=one_thread).calibration
    assert found is not None
    tried = [each.setting for each in found.measured]
    assert own_cache.exists()
    if "batch_tokens" in stated:
        assert {each.batch_tokens for each in tried} == {300}
    else:
        assert {each.threads for each in tried} == {1}
    if "workers" in stated:
        assert {each.sessions for each in tried} == {2}


def test_the_processor_has_a_name_where_the_kernel_tells_it(tmp_path: Path) -> None:
    told = tmp_path / "cpuinfo"
    told.write_text("processor\t: 0\nmodel name\t: AMD EPYC 7B13\n")
    assert processor(told) == "AMD EPYC 7B13"
    assert processor(tmp_path / "none")


def test_processors_of_one_name_are_told_apart_by_their_numbers(tmp_path: Path) -> None:
    """As in virtual machines, whose processors have their maker's name only."""
    names = []
    for family, model in ((25, 1), (26, 2)):
        told = tmp_path / f"cpuinfo-{family}"
        first = f"processor\t: 0\ncpu family\t: {family}\nmodel\t\t: {model}\nmodel name\t: AMD EPYC\n"
        told.write_text(first + first.replace(f"model\t\t: {model}", "model\t\t: 99"))
        names.append(processor(told))
    assert names == ["AMD EPYC (cpu family 25, model 1)", "AMD EPYC (cpu family 26, model 2)"]
