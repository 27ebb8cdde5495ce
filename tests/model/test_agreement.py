"""Only vectors and goldens that contradict each other are called so: what was not computed says nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from tests.catalog.test_https_urls import certificate
from tests.gates.test_package import half_copied, two_files
from tests.serving.slow import Slow
from tests.support.web import status, web_server

from embedmill.errors import ModelError, OutOfMemory
from embedmill.model import Encoder, ModelPackage
from embedmill.model.agreement import Agreement, agreements, check_agreement
from embedmill.spec import TfServingSpec


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A package whose encoders have a file of weights each, imported."""
    return two_files(tmp_path / "first")


def of_queries(model: Path) -> Agreement:
    """What is found of the queries' encoder, where the items' agrees; what is unknown stops nothing."""
    package = ModelPackage.open(model)
    found = {each.encoder: each for each in agreements(package)}
    assert found["item"].lowest == pytest.approx(1.0)
    if found["query_text"].wrong:
        with pytest.raises(ModelError, match="contradicts its own goldens"):
            check_agreement(package)
    else:
        check_agreement(package)
    return found["query_text"]


def asks_a_server(model: Path) -> None:
    """Let a server have the model of queries."""
    file = model / "model.yaml"
    server = {"kind": "tf_serving", "model": "tiny", "version": 1, "encoders": ["query_text"]}
    declared = yaml.safe_load(file.read_text())
    declared["runtimes"] = [declared["runtimes"][0], server | {"retry_for_s": 0.5}]
    file.write_text(yaml.safe_dump(declared))


@pytest.mark.parametrize("code", [401, 403, 404, 503])
def test_a_server_that_says_no_says_nothing_of_the_weights(
    model: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    asks_a_server(model)
    with web_server() as web:
        web.paths["/v1/models/tiny/versions/1"] = status(code)
        monkeypatch.setenv(TfServingSpec.VARIABLE, web.url(""))
        found = of_queries(model)
        assert web.asked
    assert (found.lowest, found.wrong) == (None, "")
    assert str(code) in found.unknown


def test_a_server_whose_certificate_is_refused_says_nothing_of_the_weights(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asks_a_server(model)
    with web_server(certificate(tmp_path, "models.internal")[1]) as web:
        monkeypatch.setenv(TfServingSpec.VARIABLE, f"https://{web.host}")
        found = of_queries(model)
    assert (found.lowest, found.wrong) == (None, "")
    assert "certificate refused" in found.unknown


def test_memory_that_is_short_says_nothing_of_the_weights(model: Path) -> None:
    package = ModelPackage.open(model)
    encoder = Encoder.load(package, "query_text")

    error = OutOfMemory("no memory for a batch")
    opened = {"query_text": replace(encoder, runtime=Slow(encoder.runtime, fails_with=error))}
    found = agreements(package, opened)[1]
    assert (found.lowest, found.wrong) == (None, "")
    assert "no memory for a batch" in found.unknown
    check_agreement(package, opened)


def test_a_model_that_cannot_be_opened_is_not_compared(model: Path) -> None:
    (model / "query_text.onnx").write_bytes(b"\x08\x09")
    found = of_queries(model)
    assert (found.lowest, found.wrong) == (None, "")
    assert "query_text.onnx" in found.unknown


def test_weights_of_another_training_are_wrong(model: Path) -> None:
    half_copied(model, "query_text")
    found = of_queries(model)
    assert "12 of 12 goldens moved" in found.wrong
    assert found.unknown == ""


def damaged(file: Path) -> None:
    file.write_text("{")


def of_two_values(file: Path) -> None:
    golden = json.loads(file.read_text("utf-8").splitlines()[0])
    file.write_text(json.dumps(golden | {"vector": golden["vector"][:2]}))


@pytest.mark.parametrize(("harm", "said"), [(damaged, "damaged one"), (of_two_values, "vectors of 2 values")])
def test_goldens_that_no_vector_can_agree_with_are_wrong(
    model: Path, harm: Callable[[Path], None], said: str
) -> None:
    harm(model / "goldens" / "query_text.jsonl")
    found = of_queries(model)
    assert said in found.wrong
    assert found.unknown == ""
