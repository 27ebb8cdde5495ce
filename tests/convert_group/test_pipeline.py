"""A package that declares OpenVINO and ONNX Runtime for the same weights, from a catalog to releases."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tests.cli.terminal import Said, run_alone
from tests.models import tiny_text_package
from tests.support.blocking import blocking
from tests.support.mill import Mill, Row, items

from embedmill.model import Encoder, ModelPackage
from embedmill.model.importing import make_goldens


@pytest.fixture
def two(mill: Mill, tmp_path: Path) -> Mill:
    """A pipeline whose model is computed by OpenVINO, and else by ONNX Runtime."""
    mill.model = tiny_text_package(tmp_path / "two")
    document = yaml.safe_load((mill.model / "model.yaml").read_text())
    document["runtimes"].insert(0, {"kind": "openvino", "file": "model.onnx"})
    (mill.model / "model.yaml").write_text(yaml.safe_dump(document))
    make_goldens(ModelPackage.open(mill.model))
    return mill


def run(mill: Mill, rows: Iterable[Row], *, without: str = "") -> Any:
    """What `embedmill run` says of these rows, in processes that cannot import `without`."""
    mill.write(rows)
    mill.open()
    environment = blocking(mill.root / "path", without)
    said: Said = run_alone("run", mill.root / "pipeline.yaml", "--json", **environment)
    assert said.code == 0, said
    return said.json


def runtimes(mill: Mill) -> set[str]:
    return {profile.runtime for profile in mill.live().content.profiles}


def test_the_first_runtime_computes_where_its_library_is(two: Mill) -> None:
    assert run(two, items(12))["computed"] == 12
    assert runtimes(two) == {"openvino"}


def test_where_it_is_absent_the_second_one_computes(two: Mill) -> None:
    assert run(two, items(12), without="openvino")["computed"] == 12
    assert runtimes(two) == {"onnxruntime"}


def test_a_machine_without_the_first_goes_on_with_a_release_of_it(two: Mill) -> None:
    run(two, items(12))
    second = run(two, items(15), without="openvino")
    assert (second["computed"], second["reused"], second["epoch"]) == (3, 12, 0)
    assert "goldens stay" in second["numerics"]
    assert {stack.runtime for stack in two.live().content.numerics.stacks} == {"openvino", "onnxruntime"}


def test_both_make_the_same_vectors(two: Mill) -> None:
    package = ModelPackage.open(two.model)
    by = [Encoder.load(package, "query_text", using=spec) for spec in package.spec.runtimes]
    assert [encoder.profile.runtime for encoder in by] == ["openvino", "onnxruntime"]
    first, second = (encoder.encode_texts(["red lamp", "green chair"]) for encoder in by)
    np.testing.assert_allclose(first, second, atol=1e-5)
