"""`model show` and `model check` of a package with three runtimes of one model: each is reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cli.conftest import embedmill as embedmill
from tests.cli.terminal import Terminal
from tests.convert_group.artifacts import text_artifact
from tests.models import tiny_text_package

from embedmill.model.importing import import_declared

KINDS = ("onnx", "openvino", "jax")


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The tiny text model of six dimensions, for three runtimes."""
    source = tiny_text_package(tmp_path / "source", dimension=6)
    text_artifact(source / "model.jax")
    declare(
        source,
        {"kind": "onnx", "file": "model.onnx"},
        {"kind": "openvino", "file": "model.onnx"},
        {"kind": "jax", "file": "model.jax", "output": "vectors"},
    )
    import_declared(source / "model.onnx", source / "model.yaml", tmp_path / "package")
    return tmp_path / "package"


def declare(folder: Path, *runtimes: dict[str, Any]) -> None:
    file = folder / "model.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"runtimes": list(runtimes)}))


def test_show_tells_what_an_artifact_is_lowered_for(package: Path, embedmill: Terminal) -> None:
    runtimes = embedmill.json("model", "show", package)["runtimes"]
    assert [(each["kind"], each["available"]) for each in runtimes] == [(kind, True) for kind in KINDS]
    assert [each["platforms"] for each in runtimes] == [None, None, ["cpu", "cuda", "tpu"]]
    assert "file model.jax, lowered for cpu, cuda, tpu" in embedmill("model", "show", package).out


def test_check_compares_every_runtime_with_the_goldens_of_the_first(
    package: Path, embedmill: Terminal
) -> None:
    report = embedmill.json("model", "check", package)
    assert report["ok"]
    for encoder in report["encoders"]:
        assert [each["kind"] for each in encoder["runtimes"]] == list(KINDS)
        for each in encoder["runtimes"]:
            assert each["state"] == "ok", each
            assert each["lowest_cosine"] >= 0.9999
            assert each["rows_per_second"] > 0
        versions = [each["version"].split()[0] for each in encoder["runtimes"]]
        assert versions == ["onnxruntime", "openvino", "jax"]


def test_one_that_moved_goldens_fails_the_check_when_all_have_been_reported(
    package: Path, embedmill: Terminal
) -> None:
    declare(
        package,
        {"kind": "onnx", "file": "model.onnx"},
        {"kind": "jax", "file": "model.jax", "output": "halves"},
        {"kind": "openvino", "file": "model.onnx"},
    )
    goldens = package / "goldens" / "item.jsonl"
    assert embedmill("model", "check", package).code == 0, "halves of vectors point the same way"
    text_artifact(package / "model.jax", seed=1)
    report = embedmill.json("model", "check", package, code=1)
    for encoder in report["encoders"]:
        assert [each["state"] for each in encoder["runtimes"]] == ["ok", "failed", "ok"]
    said = embedmill("model", "check", package)
    assert said.code == 1
    assert f"{goldens}: jax: " in said.err


def test_an_artifact_that_is_not_lowered_for_cpu_is_not_available(package: Path, embedmill: Terminal) -> None:
    text_artifact(package / "model.jax", platforms=["tpu"])
    declare(
        package,
        {"kind": "onnx", "file": "model.onnx"},
        {"kind": "jax", "file": "model.jax", "output": "vectors", "platforms": ["tpu"]},
    )
    _, jax = embedmill.json("model", "show", package)["runtimes"]
    assert (jax["available"], jax["platforms"]) == (False, ["tpu"])
    assert "is not lowered for cpu, but for tpu" in jax["why"]
    for encoder in embedmill.json("model", "check", package)["encoders"]:
        assert [each["state"] for each in encoder["runtimes"]] == ["ok", "unavailable"]
        assert encoder["runtimes"][1]["why"] == jax["why"]
