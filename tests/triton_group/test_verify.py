"""What `deploy triton` lays out, in a real Triton: it passes `verify`, and what was broken does not."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.every_input import SCHEMA, every_input_package, every_item
from tests.models import tiny_text_package
from tests.support.mill import Mill, items
from tests.triton_group.server import Triton

from embedmill import Release
from embedmill.cli import main
from embedmill.deploy.triton import deploy_triton
from embedmill.model import ModelPackage
from embedmill.spec.deployed import DEPLOYED

CHECKS = [
    "release",
    "metadata",
    "alone",
    "at once",
    "in batches",
    "in reverse",
    "search",
    "unknown model",
    "other version",
    "limit of 32 rows",
]


@dataclass
class Served:
    """A release, and a Triton that has it laid out and is not started yet."""

    release: Release
    triton: Triton

    def version(self, model: str = "test-item") -> Path:
        return self.triton.models / model / "1"

    def verified(self, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[tuple[str, str], str], Any]:
        """Exit code, what failed, and the document."""
        url = self.triton.url("http")
        command = ["verify", str(self.release.folder), "--server", url, "--protocol", "triton", "--json"]
        code = main(command)
        report = json.loads(capsys.readouterr().out)
        failed = {
            (encoder["encoder"], check["check"]): check["message"]
            for encoder in report["encoders"]
            for check in encoder["checks"]
            if not check["passed"]
        }
        return code, failed, report


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """A release of a small text model."""
    root = tmp_path_factory.mktemp("text")
    mill = Mill(root, tiny_text_package(root / "tiny"))
    mill.run(items(120))
    return mill.live()


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """A release of a model that reads every kind of input."""
    root = tmp_path_factory.mktemp("every")
    settings = {"catalog": {"source": "items.parquet", "id": "sku"}}
    mill = Mill(root, every_input_package(root / "tiny"), SCHEMA, settings=settings)
    mill.run(every_item(60))
    return mill.live()


@pytest.fixture
def served(tmp_path: Path, text: Release) -> Iterator[Served]:
    """A Triton for the release of texts."""
    triton = new_triton(tmp_path)
    deploy_triton(text, triton.models)
    yield Served(text, triton)
    triton.stop()


def new_triton(folder: Path) -> Triton:
    (folder / "triton").mkdir()
    return Triton(folder / "triton")


def test_what_deploy_lays_out_is_the_release(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    served.triton.start()
    code, failed, report = served.verified(capsys)
    assert (code, failed) == (0, {})
    assert [each["model"] for each in report["encoders"]] == ["test-item", "test-query_text"]
    assert [[check["check"] for check in each["checks"]] for each in report["encoders"]] == [CHECKS, CHECKS]
    assert report["server"] == "triton 2.51.0"


def test_every_kind_of_input_arrives_as_the_catalog_has_it(
    tmp_path: Path, every: Release, capsys: pytest.CaptureFixture[str]
) -> None:
    served = Served(every, new_triton(tmp_path))
    deploy_triton(every, served.triton.models, instances=2)
    try:
        served.triton.start()
        code, failed, _ = served.verified(capsys)
    finally:
        served.triton.stop()
    assert (code, failed) == (0, {})


def edit(file: Path, found: str, other: str) -> None:
    text = file.read_text()
    assert found in text
    file.write_text(text.replace(found, other))


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory, text: Release) -> Iterator[Served]:
    """A Triton whose items get what an expression makes of their vectors: it lies in the file `fault`."""
    folder = tmp_path_factory.mktemp("faulty")
    served = Served(text, new_triton(folder))
    deploy_triton(text, served.triton.models)
    answer = f'eval(open("{folder}/fault").read(), {{"answer": answer}})'
    edit(served.version() / "model.py", '"embedding", answer', f'"embedding", {answer}')
    served.triton.start()
    yield served
    served.triton.stop()


@pytest.mark.parametrize(
    ("fault", "check", "says"),
    [
        ("answer[::-1].copy()", "in batches", "have those of other rows"),
        (
            "answer if len(answer) == 1 else answer + 0.1 * answer.mean(axis=0)",
            "in batches",
            "have other vectors",
        ),
        ("answer * 2", "alone", "have another length"),
        ("answer[:, :8].copy()", "alone", "answered float32[1, 8] for 1 row"),
        ('answer.astype("float64")', "answers", "answered FP64, and its output is embedding: float32"),
    ],
)
def test_a_triton_that_gives_other_vectors_fails_and_is_told_how(
    faulty: Served, capsys: pytest.CaptureFixture[str], fault: str, check: str, says: str
) -> None:
    (faulty.triton.folder.parent / "fault").write_text(fault)
    code, failed, _ = faulty.verified(capsys)
    assert code == 3
    assert says in failed["item", check]
    assert not {encoder for encoder, _ in failed} - {"item"}


def test_a_triton_with_another_version_or_another_output_fails(
    served: Served, text: Release, capsys: pytest.CaptureFixture[str]
) -> None:
    deploy_triton(text, served.triton.models, number=2)
    edit(served.triton.models / "test-query_text" / "config.pbtxt", "versions: 2", "versions: 1")
    edit(served.triton.models / "test-query_text" / "config.pbtxt", '"embedding"', '"vectors"')
    edit(served.version("test-query_text") / "model.py", '"embedding"', '"vectors"')
    served.triton.start()
    code, failed, _ = served.verified(capsys)
    assert code == 3
    assert "version 1" in failed["item", "answers"]
    assert failed["query_text", "metadata"].startswith("no output 'embedding': there is vectors")


def test_a_model_that_was_changed_is_not_ready_and_says_why(served: Served) -> None:
    package = served.version() / "package"
    edit(package / "model.yaml", "max_length: 64", "max_length: 8")
    with pytest.raises(RuntimeError, match="does not start"):
        served.triton.start()
    assert "the model package is not that of release" in served.triton.log()


def test_a_model_that_makes_other_vectors_than_were_published_is_not_ready(served: Served) -> None:
    package, file = served.version() / "package", served.version() / DEPLOYED
    before = ModelPackage.open(package).package_digest()
    edit(package / "model.yaml", "max_length: 64", "max_length: 8")
    edit(file, before, ModelPackage.open(package).package_digest())
    with pytest.raises(RuntimeError, match="does not start"):
        served.triton.start()
    assert "does not make the vectors that were published" in served.triton.log()


def test_a_candidate_is_published_once_a_real_triton_has_shown_it(tmp_path: Path) -> None:
    program = str(Path(__file__).parent / "production.py")
    command = [sys.executable, program, "{release}", "{folder}", "{port}"]
    production = {"command": command, "protocol": "triton", "ready_s": 120, "stop_s": 60}
    mill = Mill(tmp_path, tiny_text_package(tmp_path / "tiny"))
    mill.settings["serving"] = {"production": production}
    assert mill.run(items(40)).number == 1
    gates = json.loads((mill.live().folder / "gates.json").read_bytes())
    (found,) = [each for each in gates["verdicts"] if each["gate"] == "parity"]
    assert found["message"].startswith("2 encoders by triton: lowest cosine ")
