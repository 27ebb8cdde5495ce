"""`model import module:function`: a function of the user's becomes an artifact for cpu, cuda and tpu."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from jax import export
from tests.convert_group.user_functions import (
    ALL_THREE,
    EVERYTHING,
    IMAGE,
    RESIZED,
    TEXT,
    TEXTS_OF_SPEC,
    declare,
    furnished,
    imported,
    module,
    request,
    runtime,
)

from embedmill.errors import DeviceUnavailable, ModelError
from embedmill.model import Encoder, ModelPackage
from embedmill.model.check import check_package
from embedmill.model.jax_function import import_function, is_function
from embedmill.model.jax_lowering import lowered
from embedmill.model.samples import TEXTS, pictures
from embedmill.model.tokens import Tokenizer
from embedmill.runtimes import load_runtime
from embedmill.runtimes.jax_artifact import read_artifact


@pytest.fixture(scope="module")
def text_package(tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    """A package of `textmodel:embed`, in the module's folder; to be read alone."""
    folder = furnished(tmp_path_factory.mktemp("once") / "shop")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return imported(folder)


def unit(vectors: Any) -> Any:
    return np.asarray(vectors) / np.linalg.norm(np.asarray(vectors), axis=1, keepdims=True)


def test_a_text_model_computes_what_the_function_does_when_it_is_called(text_package: ModelPackage) -> None:
    texts = ["red apple", "?", "x" * 300, "Stainless steel water bottle, 750 ml"]
    with Encoder.load(text_package, "query_text") as encoder:
        vectors = encoder.encode_texts(texts)
    tokenizer = Tokenizer.load(text_package.path("tokenizer.json"), max_length=32)
    batch = tokenizer.tokenize(texts).batch(np.arange(4))
    function = module(text_package.root.parent / "textmodel.py").embed
    direct = unit(function(batch.ids_NT.astype(np.int32), batch.mask_NT.astype(np.int32)))
    np.testing.assert_allclose(vectors, direct, atol=2e-6)


def test_an_image_model_computes_what_the_function_does_when_it_is_called(shop: Path) -> None:
    (shop / "imagemodel.py").write_text(IMAGE)
    item = {"pixels": {"image": {"field": "photo", **RESIZED}}}
    declare(shop, dimension=5, encoders={"item": item, "query_image": item})
    package = imported(shop, "imagemodel:embed")
    rows = pa.record_batch({"photo": pa.array(pictures(), pa.binary())})
    with Encoder.load(package) as encoder:
        (feed,) = encoder.binding.images
        pixels = feed.feed(feed.read(rows), encoder.binding.decoder)[0]["pixels"]
        vectors = encoder.encode(rows).vectors_ND
        assert str(encoder.runtime.inputs["pixels"]) == "pixels: float32[rows, 16, 16, 3]"
    np.testing.assert_allclose(vectors, unit(module(shop / "imagemodel.py").embed(pixels)), atol=2e-6)
    report = check_package(package)
    assert report.failure is None
    assert [encoder.goldens for encoder in report.encoders] == [12, 12]


def test_a_package_of_a_function_has_goldens_that_model_check_finds_again(text_package: ModelPackage) -> None:
    report = check_package(text_package)
    assert report.failure is None
    assert [encoder.name for encoder in report.encoders] == ["item", "query_text"]
    for encoder in report.encoders:
        (each,) = encoder.runtimes
        assert encoder.goldens == len(TEXTS)
        assert each.state == "ok"
        assert each.lowest_cosine == pytest.approx(1.0)
        assert (each.version or "").startswith("jax ")


def test_a_factory_may_say_that_pixels_are_uint8(shop: Path) -> None:
    (shop / "imagemodel.py").write_text(IMAGE)
    declare(shop, dimension=5, encoders={"item": {"pixels": {"image": {"field": "photo", **RESIZED}}}})
    package = imported(shop, "imagemodel:of_bytes")
    with Encoder.load(package) as encoder:
        assert str(encoder.runtime.inputs["pixels"]) == "pixels: uint8[rows, 16, 16, 3]"
        assert len(encoder.encode(pa.record_batch({"photo": pa.array(pictures())})).rejected) == 0


def test_ids_are_int32_of_free_rows_and_tokens_and_one_file_is_for_three_platforms(
    text_package: ModelPackage,
) -> None:
    artifact = read_artifact(text_package.path("model.jax"))
    assert artifact.platforms == ALL_THREE
    assert [str(each) for each in artifact.inputs.values()] == [
        "attention_mask: int32[rows, tokens]",
        "input_ids: int32[rows, tokens]",
    ]
    assert [str(each) for each in artifact.outputs.values()] == ["vectors: float32[rows, 6]"]
    assert not artifact.rounded
    with pytest.raises(DeviceUnavailable, match="no device tpu:0"):
        load_runtime(text_package.spec.runtimes[0], text_package.root, device="tpu")


def test_more_tokens_than_max_length_are_refused(text_package: ModelPackage) -> None:
    runtime = load_runtime(text_package.spec.runtimes[0], text_package.root)
    for tokens, fits in ((64, True), (65, False)):
        ones = np.ones((2, tokens), np.int32)
        feeds = {"input_ids": ones, "attention_mask": ones}
        if fits:
            assert runtime.run(feeds).shape == (2, 6)
        else:
            with pytest.raises(ModelError, match="JAX failed"):
                runtime.run(feeds)


def test_one_function_makes_the_same_bytes_wherever_it_lies(text_package: ModelPackage, here: Path) -> None:
    (here / "textmodel.py").write_text("# the same\n\n" + TEXT)
    written = text_package.path("model.jax").read_bytes()
    assert lowered(request("embed")) == written
    assert str(text_package.root.parent).encode() not in written


def test_inputs_of_all_other_kinds_are_fed_by_their_declaration(shop: Path) -> None:
    (shop / "everything.py").write_text(EVERYTHING)
    (shop / "kinds.txt").write_text("lamps\nchairs\n")
    item = {
        "photos": {"image": {"field": ["front", "back"], "mask": "there", **RESIZED}},
        "kind": {"category": {"field": "kind", "vocabulary": "kinds.txt", "offset": 1}},
        "tags": {"categories": {"field": "tags", "vocabulary": "kinds.txt", "offset": 1, "length": 3}},
        "words": {"categories": {"field": "tags", "vocabulary": "kinds.txt", "encoding": "multi_hot"}},
        "price": {"number": {"field": "price", "missing": 2, "indicator": "no_price"}},
        "stock": {"boolean": {"field": "stock"}},
    }
    declare(shop, dimension=10, normalize="none", encoders={"item": item})
    row = {
        "front": pictures()[0],
        "back": None,
        "kind": "chairs",
        "tags": ["chairs", "lamps", "chairs"],
        "price": None,
        "stock": True,
    }
    types = pa.schema([("back", pa.binary()), ("price", pa.float64())])
    with Encoder.load(imported(shop, "everything:embed")) as encoder:
        arrays = {
            name: pa.array([value], types.field(name).type if name in types.names else None)
            for name, value in row.items()
        }
        vectors = encoder.encode(pa.record_batch(arrays)).vectors_ND
    np.testing.assert_array_equal(vectors[0, 1:], [1, 0, 2, 5, 2, 1, 1, 1, 1])


def test_the_module_is_imported_once_in_a_child_and_its_words_go_to_stderr(
    shop: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = set(sys.modules)
    package = imported(shop)
    said = capfd.readouterr()
    assert (said.out, said.err.count("a word of the module")) == ("", 1)
    (shop / "imported").unlink()
    (shop / "textmodel.py").unlink()
    with Encoder.load(package) as encoder:
        assert encoder.runtime.name == "jax"
    assert not (shop / "imported").exists()
    assert not {"textmodel"} & (set(sys.modules) - before)


@pytest.mark.parametrize("name", ["embed", "compiled", "make", "named", "model", "Model"])
def test_a_partial_a_jitted_function_a_factory_and_a_callable_object_are_exported_alike(
    here: Path, name: str
) -> None:
    exported = export.deserialize(bytearray(lowered(request(name))))
    ids, mask = np.arange(12, dtype=np.int32).reshape(3, 4), np.ones((3, 4), np.int32)
    made = exported.call({"input_ids": ids, "attention_mask": mask})
    direct = module(here / "textmodel.py").embed(ids, mask)
    np.testing.assert_allclose(made["whole"] if name == "named" else made, direct, atol=2e-6)


def test_two_towers_are_two_files_of_which_the_other_lies_beside(shop: Path) -> None:
    declare(shop, encoders={"item": TEXTS_OF_SPEC["item"]})
    imported(shop).path("model.jax").rename(shop / "tower.jax")
    towers = [
        runtime(file="tower.jax", encoders=["item"]),
        runtime(file="embed.jax", encoders=["query_text"]),
    ]
    declare(shop, encoders=TEXTS_OF_SPEC, runtimes=towers)
    package = import_function("textmodel:embed", shop / "model.yaml", shop / "towers")
    assert {"tower.jax", "embed.jax", "goldens/item.jsonl", "goldens/query_text.jsonl"} <= set(
        package.files()
    )


def test_what_is_a_file_is_no_function(shop: Path) -> None:
    assert is_function("package.module:function")
    assert not any(map(is_function, ["model.onnx", "module.py", "module:", ":f", "a b:f", "s3://x", "a/b:f"]))
    (shop / "model:x").write_text("a file")
    assert not is_function("model:x")
