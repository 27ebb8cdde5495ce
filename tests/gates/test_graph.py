"""A TensorFlow Serving with the SavedModel of a release is compared by what the encoder feeds it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.models import tiny_text_package
from tests.support.mill import Mill, items
from tests.support.tf_serving import Servable, TfServing, tf_serving, tiny

from embedmill import Release
from embedmill.gates.parity import verify
from embedmill.runtimes.remote.fields.asking import AskedServer
from embedmill.spec.parity import ParityReport

SAVED_MODEL = Path(__file__).parents[1] / "data" / "saved_model"
MODELS = ("test-item", "test-query_text")


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """A release of the tiny text model, which has a SavedModel, too."""
    root = tmp_path_factory.mktemp("graph")
    model = tiny_text_package(root / "tiny")
    shutil.copytree(SAVED_MODEL, model / "saved_model")
    document = yaml.safe_load((model / "model.yaml").read_text())
    document["runtimes"].append({"kind": "tensorflow", "folder": "saved_model", "output": "vectors"})
    (model / "model.yaml").write_text(yaml.safe_dump(document))
    mill = Mill(root, model)
    mill.run(items(60))
    return mill.live()


@pytest.fixture
def server() -> Iterator[TfServing]:
    with tf_serving() as found:
        yield found


def verified(release: Release, server: TfServing, servable: Servable, version: int = 1) -> ParityReport:
    server.models = {name: {version: servable} for name in MODELS}
    with AskedServer(server.url, "tf_serving", retry_for_s=0) as asked:
        return verify(release, 1, asked)


def failed(report: ParityReport) -> dict[str, str]:
    return {check.check: check.message for check in report.encoders[0].failed}


def test_the_same_graph_passes(release: Release, server: TfServing) -> None:
    report = verified(release, server, tiny(dimension=16))
    assert report.passed, report.failures
    names = [check.check for check in report.encoders[0].checks]
    assert {"in batches", "search", "unknown model", "other version"} <= set(names)


def test_other_weights_are_noticed(release: Release, server: TfServing) -> None:
    assert "have other vectors" in failed(verified(release, server, tiny(dimension=16, seed=1)))["in batches"]


def test_another_version_is_noticed(release: Release, server: TfServing) -> None:
    assert "404" in failed(verified(release, server, tiny(dimension=16), version=2))["answers"]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"outputs": {"scores": ("DT_FLOAT", (-1, 16))}}, "has no output 'vectors'"),
        ({"inputs": {"tokens": ("DT_INT64", (-1, -1))}}, "the model has no input input_ids"),
        ({"signature": "other"}, "has no signature 'serving_default'"),
    ],
)
def test_another_graph_is_noticed(
    release: Release, server: TfServing, changed: dict[str, Any], says: str
) -> None:
    servable = tiny(dimension=16)
    other = Servable(**{**vars(servable), **changed})
    assert any(says in message for message in failed(verified(release, server, other)).values())
