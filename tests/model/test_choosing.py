"""Of several runtimes the first is the reference, and another has to make the same vectors."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml
from tests.models import tiny_image_package, tiny_text_package

from embedmill.errors import DeviceUnavailable, ModelError
from embedmill.model import Encoder, ModelPackage
from embedmill.model.check import check_package
from embedmill.model.choosing import choose_runtime
from embedmill.model.importing import make_goldens
from embedmill.model.loading import load_model


def two_runtimes(folder: Path, *, second_seed: int) -> ModelPackage:
    """A package whose second runtime has the weights of `second_seed`; the first has seed 0."""
    tiny_text_package(folder)
    make_goldens(ModelPackage.open(folder))
    other = tiny_text_package(folder.parent / "other", seed=second_seed)
    (other / "model.onnx").rename(folder / "other.onnx")
    document = yaml.safe_load((folder / "model.yaml").read_text())
    document["runtimes"].append({"kind": "onnx", "file": "other.onnx"})
    (folder / "model.yaml").write_text(yaml.safe_dump(document))
    return ModelPackage.open(folder)


def test_the_first_that_computes_here_is_taken(tmp_path: Path) -> None:
    package = two_runtimes(tmp_path / "package", second_seed=0)
    spec, runtime = choose_runtime(package, "item", among=package.spec.runtimes, device="cpu", threads=1)
    assert spec == package.spec.runtimes[0]
    assert runtime.name == "onnxruntime"


def test_the_reference_alone_decides_the_encoder_digest(tmp_path: Path) -> None:
    package = two_runtimes(tmp_path / "package", second_seed=1)
    alone = tiny_text_package(tmp_path / "alone")
    assert package.encoder_digest() == ModelPackage.open(alone).encoder_digest()


def test_when_none_computes_on_the_device_each_says_why(tmp_path: Path) -> None:
    package = two_runtimes(tmp_path / "package", second_seed=0)
    with pytest.raises(DeviceUnavailable, match=r"encoder 'item' computes here: .*'warp'.*; .*'warp'"):
        Encoder.load(package, device="warp")


def test_another_runtime_without_goldens_is_not_trusted(tmp_path: Path) -> None:
    package = two_runtimes(tmp_path / "package", second_seed=0)
    (package.root / "goldens" / "item.jsonl").unlink()
    assert Encoder.load(package).name == "item"
    with pytest.raises(ModelError, match=r"item\.jsonl: is no goldens file"):
        Encoder.load(package, using=package.spec.runtimes[1])


@pytest.mark.parametrize("all_lanes", [False, True])
def test_where_the_first_has_no_library_the_second_is_compared_and_opened_for_all_lanes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, all_lanes: bool
) -> None:
    folder = two_runtimes(tmp_path / "package", second_seed=0).root
    document = yaml.safe_load((folder / "model.yaml").read_text())
    document["runtimes"][0]["kind"] = "openvino"
    (folder / "model.yaml").write_text(yaml.safe_dump(document))
    monkeypatch.setitem(sys.modules, "openvino", None)
    encoder = Encoder.of(load_model(ModelPackage.open(folder), lanes=2, all_lanes=all_lanes))
    assert encoder.profile.runtime == "onnxruntime"
    assert encoder.sessions.opened in ({2} if all_lanes else {1, 2})  # goldens may have taken both lanes
    (folder / "goldens" / "item.jsonl").unlink()
    with pytest.raises(ModelError, match=r"item\.jsonl: is no goldens file"):
        Encoder.of(load_model(ModelPackage.open(folder), lanes=2, all_lanes=all_lanes))


@pytest.mark.parametrize(("second_seed", "same"), [(0, True), (1, False)])
def test_another_runtime_must_make_the_vectors_of_the_goldens(
    tmp_path: Path, second_seed: int, same: bool
) -> None:
    package = two_runtimes(tmp_path / "package", second_seed=second_seed)

    other = package.spec.runtimes[1]
    if same:
        loaded = Encoder.load(package, "query_text", using=other)
        assert (loaded.encode_texts(["a"]) == Encoder.load(package, "query_text").encode_texts(["a"])).all()
    else:
        with pytest.raises(ModelError, match="12 of 12 goldens moved") as caught:
            Encoder.load(package, using=other)
        assert "mend `runtimes`, or import the model again" in caught.value.hint


def test_where_the_first_of_several_runtimes_moved_the_others_are_not_blamed(tmp_path: Path) -> None:
    folder = two_runtimes(tmp_path / "package", second_seed=1).root
    (folder / "other.onnx").replace(folder / "model.onnx")
    (folder / "other.onnx").write_bytes((folder / "model.onnx").read_bytes())
    first, second = check_package(ModelPackage.open(folder)).encoders[0].runtimes
    assert first.error is not None
    assert first.error.hint.endswith("are not those of the import; import the model again")
    assert second.error is not None
    assert second.error.hint.startswith("the first of `runtimes` made them")


@pytest.mark.parametrize("second_seed", [0, 1])
def test_goldens_of_pictures_let_an_image_model_have_two_runtimes(tmp_path: Path, second_seed: int) -> None:
    folder = tiny_image_package(tmp_path / "package")
    make_goldens(ModelPackage.open(folder))
    other = tiny_image_package(tmp_path / "other", seed=second_seed)
    (other / "model.onnx").rename(folder / "other.onnx")
    document = yaml.safe_load((folder / "model.yaml").read_text())
    document["runtimes"].append({"kind": "onnx", "file": "other.onnx"})
    (folder / "model.yaml").write_text(yaml.safe_dump(document))
    package = ModelPackage.open(folder)
    if second_seed == 0:
        assert Encoder.load(package, using=package.spec.runtimes[1]).name == "item"
    else:
        with pytest.raises(ModelError, match=r"goldens moved"):
            Encoder.load(package, using=package.spec.runtimes[1])
