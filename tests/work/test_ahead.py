"""A model that a loop opened before its run was planned serves that run only if it is the planned one."""

from __future__ import annotations

import os
import shutil
import threading
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import psutil
import pyarrow as pa
import pytest
from tests.every_input import png
from tests.models import tiny_image_package, tiny_text_package
from tests.support.mill import Mill, items

from embedmill.errors import DecodersFailed
from embedmill.model import Encoder
from embedmill.model.begun import begin
from embedmill.planned import PlannedRun
from embedmill.release.vectors import VectorPart
from embedmill.spec.documents import CommitRecord
from embedmill.types import Opening, Vectors
from embedmill.work import Opened, Told, WorkerOptions, stand_by, work

OPTIONS = WorkerOptions("w")


@pytest.fixture
def opened(mill: Mill, monkeypatch: pytest.MonkeyPatch) -> Opened:
    return told(opening(mill), monkeypatch)


def opening(mill: Mill, batch_tokens: int = 512) -> Opening:
    return Opening(str(mill.model), batch_tokens, 16)


def told(opening: Opening, monkeypatch: pytest.MonkeyPatch) -> Opened:
    found = waited(opening, monkeypatch)
    assert found is not None
    assert found.opened is not None
    return found.opened


def waited(opening: Opening, monkeypatch: pytest.MonkeyPatch) -> Told | None:
    """What a loop has once it was told of a run on stdin."""
    read, write = os.pipe()
    os.write(write, b"file:///mill/runs/r\n")
    os.close(write)
    with os.fdopen(read) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        return stand_by(begin(opening, lanes=OPTIONS.lanes), OPTIONS)


def vectors_of(run: PlannedRun) -> Vectors:
    parts = []
    for shard in run.plan.shards:
        record = run.home.read(CommitRecord, run.home.run_key(run.plan.run, "commits", f"{shard.name}.json"))
        assert record.vectors is not None
        file = run.home.verified(run.home.key(record.vectors.path), record.vectors)
        parts.append(np.array(VectorPart.open(file).vectors_ND))
    return np.concatenate(parts)


def test_the_planned_model_is_not_loaded_again_and_makes_the_same_vectors(
    mill: Mill, opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = mill.planned(items(30))
    (tmp_path / "usual").mkdir()
    usual = Mill(tmp_path / "usual", mill.model).worked(items(30))
    monkeypatch.setattr(Encoder, "load", never)
    assert work(run.home, run.plan.run, OPTIONS, opened).vectors == 30
    assert (vectors_of(run) == vectors_of(usual)).all()


def never(*arguments: object, **options: object) -> Encoder:
    raise AssertionError("a model is loaded")


def test_other_batches_than_the_planned_ones_need_no_second_load(
    mill: Mill, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = told(opening(mill), monkeypatch)
    mill.settings = {"work": {"batch_tokens": 64, "batch_images": 3}}
    run = mill.planned(items(30))
    monkeypatch.setattr(Encoder, "load", never)
    work(run.home, run.plan.run, OPTIONS, opened)
    key = run.home.run_key(run.plan.run, "commits", "00000.json")
    profile = run.home.read(CommitRecord, key).profile
    assert (profile.batch_tokens, profile.batch_images) == (64, 3)


@pytest.mark.parametrize(("all_lanes", "open_before"), [(True, 3), (False, 1)])
def test_a_first_run_finds_all_lanes_open_and_a_refresh_opens_what_it_needs(
    mill: Mill, monkeypatch: pytest.MonkeyPatch, all_lanes: bool, open_before: int
) -> None:
    monkeypatch.setattr(f"{__name__}.OPTIONS", WorkerOptions("w", lanes=3))
    encoder = told(replace(opening(mill), all_lanes=all_lanes), monkeypatch).encoder
    assert encoder is not None
    assert (encoder.sessions.opened, encoder.lanes) == (open_before, 3)


def test_a_model_whose_decoders_cannot_start_stays_open(mill: Mill, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: Encoder, __: int | None) -> None:
        raise DecodersFailed("no process")

    monkeypatch.setattr(Encoder, "start_decoders", fails)
    assert told(opening(mill), monkeypatch).encoder is not None


def test_what_decodes_images_waits_for_the_run_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mill = Mill(tmp_path, tiny_image_package(tmp_path / "model"))
    mill.schema = pa.schema([("sku", pa.string()), ("image", pa.binary())])
    mill.settings = {"catalog": {"source": "items.parquet", "id": "sku"}}
    run = mill.planned([{"sku": f"s{seed}", "image": png(seed)} for seed in range(4)])
    opened = told(opening(mill), monkeypatch)
    assert opened.encoder is not None
    waiting = decoders()
    assert len(waiting) == 1
    opened.encoder.encode(pa.RecordBatch.from_pydict({"image": [png(9)]}))
    assert decoders() == waiting
    assert work(run.home, run.plan.run, OPTIONS, opened).vectors == 4
    assert decoders() == []


def decoders() -> list[int]:
    """Processes of this one that decode."""
    return [
        child.pid for child in psutil.Process().children() if "embedmill.decoding.child" in child.cmdline()
    ]


def test_another_model_than_the_planned_one_computes_nothing_and_leaves_memory(
    mill: Mill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tiny_text_package(tmp_path / "other", seed=1)
    opened = told(Opening(str(other), 512, 16), monkeypatch)
    assert opened.encoder is not None
    session = weakref.ref(opened.encoder)
    run = mill.planned(items(30))
    load, left = Encoder.load, list[Encoder | None]()

    def loads(*arguments: object, **options: object) -> Encoder:
        left.append(session())
        return load(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Encoder, "load", loads)
    work(run.home, run.plan.run, OPTIONS, opened)
    assert left == [None]
    (tmp_path / "usual").mkdir()
    assert (vectors_of(run) == vectors_of(Mill(tmp_path / "usual", mill.model).worked(items(30)))).all()


def test_an_owner_may_write_to_the_model_while_it_computes(
    mill: Mill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = mill.worked(items(30))
    (tmp_path / "own").mkdir()
    own = Mill(tmp_path / "own", Path(shutil.copytree(mill.model, tmp_path / "model")))
    opened = told(opening(own), monkeypatch)
    run = own.planned(items(30))
    other = tiny_text_package(tmp_path / "other", seed=1)
    (own.model / "model.onnx").write_bytes((other / "model.onnx").read_bytes())
    monkeypatch.setattr(Encoder, "load", never)
    work(run.home, run.plan.run, OPTIONS, opened)
    assert (vectors_of(run) == vectors_of(usual)).all()


def test_a_package_whose_tensors_would_be_mapped_is_opened_from_the_store_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_text_package(tmp_path / "own")
    model = onnx.load(folder / "model.onnx")
    onnx.save(model, folder / "model.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    monkeypatch.setattr(Encoder, "load", never)
    assert waited(Opening(str(folder), 512, 16), monkeypatch) == Told("file:///mill/runs/r", None)


def test_a_package_that_changes_before_there_is_a_run_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_text_package(tmp_path / "own")
    opened = told(Opening(str(folder), 512, 16), monkeypatch)
    assert opened.is_unchanged()
    (folder / "model.yaml").touch()
    assert not opened.is_unchanged()
    assert opened.encoder is None


def test_a_package_that_changes_while_it_is_opened_is_not_trusted(
    mill: Mill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(mill.model, tmp_path / "own"))
    make = Encoder.of

    def changed(*arguments: object, **options: object) -> Encoder:
        encoder = make(*arguments, **options)  # type: ignore[arg-type]
        (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes())
        return encoder

    monkeypatch.setattr(Encoder, "of", changed)
    found = waited(Opening(str(folder), 512, 16), monkeypatch)
    assert found == Told("file:///mill/runs/r", None)


def test_a_package_that_cannot_be_digested_is_left_to_the_planner_and_no_thread_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, before = tiny_text_package(tmp_path / "own"), threading.enumerate()
    (tmp_path / "elsewhere").write_text("what the package may not have")
    (folder / "notes").symlink_to(tmp_path / "elsewhere")
    assert waited(Opening(str(folder), 512, 16), monkeypatch) == Told("file:///mill/runs/r", None)
    assert threading.enumerate() == before


def test_a_package_that_is_no_model_is_left_to_the_planner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert waited(Opening(str(tmp_path), 512, 16), monkeypatch) == Told("file:///mill/runs/r", None)
