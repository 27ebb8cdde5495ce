"""A package that declares two runtimes of one model, where the library of the first is not installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import yaml
from tests.models import tiny_text_package
from tests.support.mill import Mill, items

from embedmill.model import ModelPackage
from embedmill.model.importing import make_goldens


def test_a_catalog_is_embedded_by_the_runtime_whose_library_is_installed(mill: Mill, tmp_path: Path) -> None:
    assert importlib.util.find_spec("openvino") is None
    mill.model = tiny_text_package(tmp_path / "two")
    make_goldens(ModelPackage.open(mill.model))
    document = yaml.safe_load((mill.model / "model.yaml").read_text())
    document["runtimes"].insert(0, {"kind": "openvino", "file": "model.onnx"})
    (mill.model / "model.yaml").write_text(yaml.safe_dump(document))
    assert mill.run(items(9)).computed == 9
    assert {profile.runtime for profile in mill.live().content.profiles} == {"onnxruntime"}
