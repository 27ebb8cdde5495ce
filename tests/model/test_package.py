"""A package is a folder that holds all it names; its digests change when, and only when, they should."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from tests.models import POINTER, edit, tiny_image_package, tiny_mixed_package, tiny_text_package

from embedmill.errors import ModelError, SpecError
from embedmill.model import ModelPackage

Edit = Callable[[dict[str, Any]], object]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_text_package(tmp_path / "package")


def text(document: dict[str, Any], encoder: str = "item") -> Any:
    return document["encoders"][encoder]["input_ids"]["text"]


def handmade(folder: Path) -> ModelPackage:
    """Fixed bytes, so that digests can be written down; its ONNX file is an empty message."""
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"\x08\x09")
    (folder / "tokenizer.json").write_bytes(b"{}")
    (folder / "model.yaml").write_text(
        "name: vector\n"
        "runtimes: [{kind: onnx, file: model.onnx, output: out}]\n"
        "dimension: 3\n"
        "normalize: l2\n"
        "encoders:\n"
        "  item:\n"
        "    ids: {text: {template: '{title}: ü', max_length: 9}}\n"
        "    pixels: {image: {field: photo, resize: {shorter: 8}, crop: {height: 8, width: 8}}}\n"
    )
    return ModelPackage.open(folder)


def test_the_digests_are_those_of_the_test_vector(tmp_path: Path) -> None:
    package = handmade(tmp_path / "package")
    onnx_digest = hashlib.sha256(b"\x08\x09").hexdigest()
    tokenizer = hashlib.sha256(b"{}").hexdigest()
    canonical = (
        '{"dimension":3,"epoch":0,"inputs":{"ids":{"text":{"mask":"attention_mask","max_length":9,"template":'
        f'"{{title}}: \\u00fc","tokenizer":"{tokenizer}","type_ids":"token_type_ids"}}}},"pixels":{{"image":'
        '{"background":[255,255,255],"crop":{"height":8,"width":8},"field":"photo","layout":"nchw",'
        '"max_pixels":50000000,"mean":[0.0,0.0,0.0],"resize":{"filter":"bicubic","height":null,"shorter":8,'
        '"width":null},"scale":0.00392156862745098,"std":[1.0,1.0,1.0]}}},"normalize":"l2","precision":"float32",'
        f'"runtime":{{"external":[],"file":"{onnx_digest}","kind":"onnx","output":"out"}},'
        '"schema":"embedmill/encoder-digest/1"}'
    )
    assert package.encoder_digest() == hashlib.sha256(canonical.encode("ascii")).hexdigest()
    assert package.encoder_digest() == "f1212a9fbbe4b0c74423985feba5916dd0f27ab7012bf5c7991eaf3399d09df7"
    assert package.package_digest() == "de415bd350b6cadf97f808befc2adec8d842936782523dcfec7b3266f746fd89"


def test_files_are_listed_sorted_without_hidden_ones_and_caches(folder: Path) -> None:
    for extra in (".git/config", ".hidden", "__pycache__/x.pyc", "goldens/item.jsonl", "a b.txt"):
        (folder / extra).parent.mkdir(exist_ok=True)
        (folder / extra).write_text("x")
    package = ModelPackage.open(folder)
    assert package.files() == ["a b.txt", "goldens/item.jsonl", "model.onnx", "model.yaml", "tokenizer.json"]
    assert package.file_digests()["a b.txt"] == hashlib.sha256(b"x").hexdigest()
    assert list(package.file_digests()) == package.files()


@pytest.mark.parametrize(
    "change",
    [
        lambda f: (f / "model.yaml").write_text((f / "model.yaml").read_text() + "# a comment\n"),
        lambda f: edit(f, lambda d: d.update(name="other", license="MIT", source="elsewhere")),
        lambda f: edit(f, lambda d: text(d, "query_text").update(max_length=9)),
        lambda f: (f / "README.md").write_text("words"),
    ],
    ids=["comment", "name-and-licence", "another-encoder", "another-file"],
)
def test_what_moves_no_vector_changes_the_package_digest_alone(
    folder: Path, change: Callable[[Path], object]
) -> None:
    before = ModelPackage.open(folder)
    digests = before.encoder_digest(), before.package_digest()
    change(folder)
    after = ModelPackage.open(folder)
    assert after.encoder_digest() == digests[0]
    assert after.package_digest() != digests[1]


def test_renamed_files_change_the_package_digest_alone(folder: Path) -> None:
    before = ModelPackage.open(folder)
    digests = before.encoder_digest(), before.package_digest()
    (folder / "model.onnx").rename(folder / "net.onnx")
    (folder / "tokenizer.json").rename(folder / "words.json")
    edit(folder, lambda d: d["runtimes"][0].update(file="net.onnx"))
    edit(folder, lambda d: [text(d, name).update(tokenizer="words.json") for name in d["encoders"]])
    after = ModelPackage.open(folder)
    assert after.encoder_digest() == digests[0]
    assert after.package_digest() != digests[1]


def append(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b" ")


def doc_string(file: Path) -> None:
    model = onnx.load(file)
    model.doc_string = "changed"
    onnx.save(model, file)


@pytest.mark.parametrize(
    "change",
    [
        lambda f: doc_string(f / "model.onnx"),
        lambda f: append(f / "tokenizer.json"),
        lambda f: edit(f, lambda d: text(d).update(template="{title} {category}")),
        lambda f: edit(f, lambda d: text(d).update(max_length=63)),
        lambda f: edit(f, lambda d: d.update(normalize="none")),
        lambda f: edit(f, lambda d: d.update(dimension=17)),
        lambda f: edit(f, lambda d: d["runtimes"][0].update(output="vectors")),
    ],
    ids=["weights", "tokenizer", "template", "max-length", "normalize", "dimension", "output"],
)
def test_what_may_move_a_vector_changes_the_encoder_digest(
    folder: Path, change: Callable[[Path], object]
) -> None:
    before = ModelPackage.open(folder).encoder_digest()
    change(folder)
    assert ModelPackage.open(folder).encoder_digest() != before


def test_tensors_in_another_file_belong_to_the_encoder_digest(folder: Path) -> None:
    model = onnx.load(folder / "model.onnx")
    onnx.save(model, folder / "model.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    before = ModelPackage.open(folder).encoder_digest()
    weights = np.fromfile(folder / "w.bin", np.uint8)
    weights[100] ^= 1
    weights.tofile(folder / "w.bin")
    assert ModelPackage.open(folder).encoder_digest() != before


def test_the_image_declaration_and_the_numerics_epoch_belong_to_the_encoder_digest(tmp_path: Path) -> None:
    folder = tiny_image_package(tmp_path / "package")
    package = ModelPackage.open(folder)
    before = package.encoder_digest()
    assert package.encoder_digest(epoch=1) != before
    edit(folder, lambda d: d["encoders"]["item"]["pixels"]["image"].update(scale=0.5))
    after = ModelPackage.open(folder)
    assert after.encoder_digest() != before
    assert after.encoder_digest("query_image") == before


def test_every_encoder_and_seed_has_its_own_digest(tmp_path: Path) -> None:
    folders = [
        tiny_text_package(tmp_path / "a"),
        tiny_text_package(tmp_path / "b", seed=1),
        tiny_mixed_package(tmp_path / "c"),
    ]
    digests = {ModelPackage.open(f).encoder_digest(e) for f in folders[:2] for e in ("item", "query_text")}
    assert len(digests | {ModelPackage.open(folders[2]).encoder_digest()}) == 5


def test_the_same_seed_makes_the_same_package(folder: Path, tmp_path: Path) -> None:
    again = tiny_text_package(tmp_path / "again")
    assert ModelPackage.open(again).package_digest() == ModelPackage.open(folder).package_digest()


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_a_missing_file_is_named_with_what_to_do(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelError, match=f"model.yaml: '{name}' is no file in .*put it there"):
        ModelPackage.open(folder)


@pytest.mark.parametrize("name", ["model.onnx", "w.bin", "tokenizer.json", "goldens/item.jsonl"])
def test_a_pointer_of_git_lfs_is_told_as_such_when_a_package_is_opened(folder: Path, name: str) -> None:
    model = onnx.load(folder / "model.onnx")
    onnx.save(model, folder / "model.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    (folder / "goldens").mkdir()
    (folder / name).write_text(POINTER)
    with pytest.raises(ModelError, match=rf"package/{name}: is a pointer of Git LFS, .*git lfs pull"):
        ModelPackage.open(folder)


def test_a_pointer_in_a_saved_model_is_told_as_such_when_a_package_is_opened(folder: Path) -> None:
    edit(folder, lambda d: d.update(runtimes=[{"kind": "tensorflow", "folder": "saved"}]))
    (folder / "saved" / "variables").mkdir(parents=True)
    (folder / "saved" / "saved_model.pb").touch()
    ModelPackage.open(folder)
    (folder / "saved" / "variables" / "variables.data-00000-of-00001").write_text(POINTER)
    with pytest.raises(ModelError, match=r"variables.data-00000-of-00001: is a pointer of Git LFS"):
        ModelPackage.open(folder)


def test_a_folder_without_model_yaml_is_no_package(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no model package: it has no model.yaml .*embedmill model import"):
        ModelPackage.open(tmp_path)


def test_a_wrong_model_yaml_is_a_spec_error(folder: Path) -> None:
    edit(folder, lambda d: d.update(dimensoin=16))
    with pytest.raises(SpecError, match="did you mean `dimension`"):
        ModelPackage.open(folder)


@pytest.mark.parametrize("name", ["../model.onnx", "/etc/hostname", "sub/../../model.onnx", "away.onnx"])
def test_files_outside_the_folder_are_refused(folder: Path, name: str) -> None:
    shutil.copy(folder / "model.onnx", folder.parent / "model.onnx")
    (folder / "away.onnx").symlink_to(folder.parent / "model.onnx")
    edit(folder, lambda d: d["runtimes"][0].update(file=name))
    with pytest.raises(ModelError, match="leads out of the folder"):
        ModelPackage.open(folder)


def test_a_link_within_the_folder_is_as_good_as_a_file(folder: Path) -> None:
    (folder / "model.onnx").rename(folder / "net.onnx")
    (folder / "model.onnx").symlink_to("net.onnx")
    assert ModelPackage.open(folder).package_digest()


def test_any_link_that_leads_out_stops_the_digest(folder: Path) -> None:
    (folder / "notes.txt").symlink_to("/etc/hostname")
    with pytest.raises(ModelError, match=r"'notes.txt' leads out"):
        ModelPackage.open(folder).package_digest()


def test_an_encoder_that_there_is_not_is_a_model_error_that_lists_those_there_are(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"no encoder 'query_image' \(it has: item, query_text\)"):
        ModelPackage.open(folder).encoder_digest("query_image")


def test_tensorrt_belongs_to_the_encoder_digest_and_what_it_is_tuned_for_does_not(folder: Path) -> None:
    def digest(**keys: Any) -> str:
        edit(folder, lambda d: d["runtimes"][0].update(keys))
        return ModelPackage.open(folder).encoder_digest()

    before = digest()
    assert digest(memory_limit_mib=512) == before
    assert digest(tensorrt=False) == before
    by_tensorrt = digest(tensorrt=True)
    assert by_tensorrt != before
    assert digest(shapes={"input_ids": {"min": [1, 1], "opt": [8, 8], "max": [9, 9]}}) == by_tensorrt
