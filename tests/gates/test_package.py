"""A package whose weights contradict its own goldens is published by no run, and named."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from tests.gates.test_gates import failed, verdicts_on
from tests.models import tiny_text_package
from tests.support.mill import Mill, items

from embedmill import planned
from embedmill.errors import GateFailed, ModelError, SpecError
from embedmill.gates import GATES
from embedmill.gates.package import GATE, goldens
from embedmill.model import ModelPackage
from embedmill.model.agreement import agreements
from embedmill.model.importing import import_declared
from embedmill.planning import numerics
from embedmill.planning.numerics import Here
from embedmill.release.assemble import read_candidate
from embedmill.release.publish import seal
from embedmill.spec import WorkSpec
from embedmill.spec.documents import Estimate

OLDER = {name: gate for name, gate in GATES.items() if name != GATE}
"""The gates of a version that compared no goldens."""


def two_files(folder: Path, *, seed: int = 0) -> Path:
    """A package, imported, whose encoders have a file of weights each."""
    source = tiny_text_package(folder / "source", seed=seed)
    for encoder in ("item", "query_text"):
        shutil.copyfile(source / "model.onnx", source / f"{encoder}.onnx")
    runtimes = [{"kind": "onnx", "file": f"{e}.onnx", "encoders": [e]} for e in ("item", "query_text")]
    declared = yaml.safe_load((source / "model.yaml").read_text()) | {"runtimes": runtimes}
    (source / "model.yaml").write_text(yaml.safe_dump(declared))
    import_declared(source / "item.onnx", source / "model.yaml", folder / "package")
    return folder / "package"


@pytest.fixture
def model(mill: Mill, tmp_path: Path) -> Path:
    """The package of the mill, sound until `half_copied`."""
    mill.model = two_files(tmp_path / "first")
    return mill.model


def half_copied(model: Path, encoder: str) -> None:
    """One file of another training beside the rest."""
    other = two_files(model.parent.parent / f"other-{encoder}", seed=5)
    shutil.copyfile(other / f"{encoder}.onnx", model / f"{encoder}.onnx")


@pytest.mark.parametrize("encoder", ["item", "query_text"])
def test_weights_of_another_training_stop_the_first_release(mill: Mill, model: Path, encoder: str) -> None:
    half_copied(model, encoder)
    run = mill.indexed(items(5))
    verdict = verdicts_on(run)[GATE]
    assert not verdict.passed
    assert str(model) in verdict.message
    assert f"encoder {encoder}: 12 of 12 goldens moved, the lowest cosine is" in verdict.message
    assert "embedmill model check" in verdict.message
    assert verdict.found is not None
    assert verdict.found < 0.9999
    assert failed(run) == {GATE}
    with pytest.raises(GateFailed, match="contradicts its own goldens"):
        run.run()
    with pytest.raises(SpecError, match="allowed are"):
        run.check([GATE])
    assert mill.open().live() is None


@pytest.mark.parametrize("encoder", ["item", "query_text"])
def test_they_stop_a_refresh_whose_items_need_nothing_new(mill: Mill, model: Path, encoder: str) -> None:
    first = mill.run(items(5)).release
    half_copied(model, encoder)
    assert failed(mill.indexed()) == {GATE}
    assert mill.live().name == first


def test_a_package_is_compared_once_and_again_when_it_changed(mill: Mill, model: Path) -> None:
    mill.run(items(5))
    passed = verdicts_on(mill.indexed(items(6)))[GATE]
    assert passed.passed
    assert "has the same package, and showed it" in passed.message
    mill.run()
    with (model / "model.yaml").open("a") as spec:
        spec.write("# a comment\n")
    compared = verdicts_on(mill.indexed(items(7)))[GATE]
    assert compared.passed
    assert "item 1.000000, query_text 1.000000" in compared.message
    assert compared.found == pytest.approx(1.0)


def test_what_was_published_before_anybody_compared_is_compared(mill: Mill, model: Path) -> None:
    """As a release of an older version, which had no such gate."""
    mill.run(items(5))
    file = mill.live().folder / "gates.json"
    assert GATE in file.read_text()
    release = mill.live()
    told = file.read_text().replace(f'"gate": "{GATE}"', '"gate": "older"')
    assert told != file.read_text()
    file.chmod(0o644)
    file.write_text(told)
    assert "lowest cosines" in goldens(release, release).message


def test_without_goldens_there_is_nothing_to_contradict(mill: Mill) -> None:
    verdict = verdicts_on(mill.indexed(items(5)))[GATE]
    assert verdict.passed
    assert verdict.message.endswith("it has none")


def test_a_runtime_that_computes_nothing_here_is_said_not_to_be_compared(
    mill: Mill, model: Path, tmp_path: Path
) -> None:
    """The gate looks at the candidate's own package: here one whose queries a server computes."""
    file = model / "model.yaml"
    server = {"kind": "triton", "model": "tiny", "version": 1, "encoders": ["query_text"]}
    declared = yaml.safe_load(file.read_text())
    declared["runtimes"] = [declared["runtimes"][0], server]
    file.write_text(yaml.safe_dump(declared))
    found = {each.encoder: each for each in agreements(ModelPackage.open(model))}
    assert found["item"].lowest == pytest.approx(1.0)
    assert (found["query_text"].lowest, found["query_text"].wrong) == (None, "")
    assert "nothing says where the server" in found["query_text"].unknown


@pytest.mark.parametrize("seconds", [3600.0, None])
@pytest.mark.parametrize("encoder", ["item", "query_text"])
def test_long_work_is_not_begun(model: Path, encoder: str, seconds: float | None) -> None:
    half_copied(model, encoder)
    here = Here(ModelPackage.open(model), WorkSpec())
    with pytest.raises(ModelError, match=f"{model}.*encoder {encoder}: 12 of 12") as raised:
        here.check_agreement(Estimate(seconds=seconds, source="measured"))
    assert "embedmill model check" in str(raised.value)
    here.check_agreement(Estimate(seconds=1.0, source="measured"))  # the gate would say so in time


def test_a_plan_of_long_work_says_so_and_leaves_no_run(
    mill: Mill, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numerics, "LONG_S", 0.0)  # any work is long
    mill.planned(items(5))
    half_copied(model, "query_text")
    with pytest.raises(ModelError, match="contradicts its own goldens"):
        mill.planned(items(6))


def test_long_work_on_a_release_that_showed_nothing_is_not_begun(
    mill: Mill, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same package is live, published by a version that compared nothing."""
    half_copied(model, "query_text")
    with monkeypatch.context() as older:
        older.setattr(planned, "GATES", OLDER)
        mill.run(items(5))
    monkeypatch.setattr(numerics, "LONG_S", 0.0)  # any work is long
    with pytest.raises(ModelError, match="contradicts its own goldens"):
        mill.planned(items(6))


def test_what_an_older_version_checked_is_checked_again_before_it_is_published(
    mill: Mill, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half_copied(model, "query_text")
    with monkeypatch.context() as older:
        older.setattr(planned, "GATES", OLDER)
        assert mill.checked(items(5)).check().passed
    run = mill.open().open_run()
    with pytest.raises(GateFailed, match="is not checked yet by all of today's gates") as raised:
        run.publish()
    assert "embedmill check" in raised.value.hint
    assert not run.check().passed
    with pytest.raises(GateFailed, match="contradicts its own goldens"):
        run.publish()


def test_what_was_sealed_stands_by_the_gates_of_its_time(
    mill: Mill, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older:
        older.setattr(planned, "GATES", OLDER)
        run = mill.checked(items(5))
        content = read_candidate(run.home, run.plan.run)
        seal(run.home, content, run.check())  # and its process died
    assert mill.open().open_run().publish().number == 1
