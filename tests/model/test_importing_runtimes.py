"""An import makes goldens with the first runtime of a package, and compares the others that compute here."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.models import edit, tiny_text_package

from embedmill.errors import DeviceUnavailable, MissingExtra, ModelError
from embedmill.model import ModelPackage
from embedmill.model.check import check_package
from embedmill.model.importing import import_declared


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tiny_text_package(tmp_path / "source")


def imported(source: Path) -> ModelPackage:
    return import_declared(source / "model.onnx", source / "model.yaml", source.parent / "package")


def add_runtime(source: Path, **runtime: Any) -> None:
    edit(source, lambda d: d["runtimes"].append(runtime))


def test_another_runtime_that_makes_the_same_vectors_is_imported(source: Path) -> None:
    shutil.copy(source / "model.onnx", source / "same.onnx")
    add_runtime(source, kind="onnx", file="same.onnx")
    assert check_package(imported(source)).failure is None


def test_another_runtime_that_makes_other_vectors_is_refused_by_the_import(source: Path) -> None:
    """By what `model check` says of the package, and with nothing left behind."""
    other = tiny_text_package(source.parent / "seed-1", seed=1)
    shutil.copy(other / "model.onnx", source / "other.onnx")
    add_runtime(source, kind="onnx", file="other.onnx")
    with pytest.raises(
        ModelError, match=r"onnx other\.onnx: .*/package/goldens/item\.jsonl: .*12 of 12 goldens moved"
    ) as caught:
        imported(source)
    assert "the first of `runtimes` made them" in caught.value.hint
    assert not (source.parent / "package").exists()


def test_another_runtime_that_is_damaged_is_refused_by_the_import(source: Path) -> None:
    (source / "other.onnx").write_bytes(b"\x08\x09")
    add_runtime(source, kind="onnx", file="other.onnx")
    with pytest.raises(ModelError, match=r"package/other\.onnx: "):
        imported(source)


def test_a_server_that_is_another_runtime_is_not_asked_by_the_import(
    source: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It gets its model from the package that is being made."""
    monkeypatch.setenv("EMBEDMILL_TRITON_URL", "http://127.0.0.1:1")
    add_runtime(source, kind="triton", model="tiny", version=1)
    assert imported(source).files()
    assert not caplog.records


def test_another_runtime_that_is_installed_and_cannot_be_compared_is_told_once(
    source: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (source.parent / "broken" / "openvino").mkdir(parents=True)
    (source.parent / "broken" / "openvino" / "__init__.py").write_text("raise ImportError('no libtbb')")
    monkeypatch.delitem(sys.modules, "openvino", raising=False)
    monkeypatch.syspath_prepend(source.parent / "broken")
    add_runtime(source, kind="openvino", file="model.onnx")
    assert imported(source).files()
    (record,) = caplog.records
    assert record.getMessage().startswith(
        "openvino model.onnx: was not compared with the first of `runtimes`:"
    )
    assert "no libtbb" in record.getMessage()


def test_a_first_runtime_that_cannot_compute_here_does_not_name_itself_instead(source: Path) -> None:
    add_runtime(source, kind="onnx", file="model.onnx", output="vectors")
    edit(source, lambda d: d.update(precision="bfloat16"))
    with pytest.raises(DeviceUnavailable, match="bfloat16 on cpu: onnx is the first of `runtimes`") as caught:
        imported(source)
    assert "put onnx first" not in caught.value.hint


def test_a_first_runtime_that_is_not_installed_names_one_that_is(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    edit(source, lambda d: d["runtimes"].insert(0, {"kind": "openvino", "file": "model.onnx"}))
    says = "OpenVINO is not installed: openvino is the first of `runtimes` and makes the goldens"
    with pytest.raises(MissingExtra, match=says) as caught:
        imported(source)
    assert (
        caught.value.hint == "pip install 'embedmill[openvino]', or put onnx first, which is available here"
    )


def test_a_first_runtime_that_is_not_installed_and_the_only_one_says_what_to_install(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    edit(source, lambda d: d.update(runtimes=[{"kind": "openvino", "file": "model.onnx"}]))
    with pytest.raises(MissingExtra) as caught:
        imported(source)
    assert caught.value.hint == "pip install 'embedmill[openvino]'"
