"""A model that a loop opened before its run was planned serves that run only if it is the planned one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.models import tiny_text_package
from tests.support.mill import Mill, items

from embedmill.model import Encoder
from embedmill.pipeline import PlannedRun
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
        return stand_by(opening, OPTIONS)


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


def test_a_model_with_other_settings_is_loaded_anew(mill: Mill, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = told(opening(mill, batch_tokens=64), monkeypatch)
    run = mill.planned(items(30))
    assert not opened.serves(run.plan)
    work(run.home, run.plan.run, OPTIONS, opened)
    key = run.home.run_key(run.plan.run, "commits", "00000.json")
    assert run.home.read(CommitRecord, key).profile.batch_tokens == 512


def test_another_model_than_the_planned_one_computes_nothing(
    mill: Mill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tiny_text_package(tmp_path / "other", seed=1)
    opened = told(Opening(str(other), 512, 16), monkeypatch)
    run = mill.planned(items(30))
    assert not opened.serves(run.plan)
    work(run.home, run.plan.run, OPTIONS, opened)
    (tmp_path / "usual").mkdir()
    assert (vectors_of(run) == vectors_of(Mill(tmp_path / "usual", mill.model).worked(items(30)))).all()


def test_a_package_that_changes_while_it_is_opened_is_not_trusted(
    mill: Mill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(mill.model, tmp_path / "own"))
    load = Encoder.load

    def changed(*arguments: object, **options: object) -> Encoder:
        encoder = load(*arguments, **options)  # type: ignore[arg-type]
        (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes())
        return encoder

    monkeypatch.setattr(Encoder, "load", changed)
    found = waited(Opening(str(folder), 512, 16), monkeypatch)
    assert found == Told("file:///mill/runs/r", None)


def test_a_package_that_is_no_model_is_left_to_the_planner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert waited(Opening(str(tmp_path), 512, 16), monkeypatch) == Told("file:///mill/runs/r", None)
