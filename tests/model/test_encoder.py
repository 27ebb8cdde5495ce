"""Rows become vectors: in order, whatever the batches, and what cannot be embedded says why."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pytest
import tokenizers
from onnx import TensorProto, helper
from PIL import Image
from tests.models import edit, save_onnx, tiny_image_package, tiny_mixed_package, tiny_text_package

from embedmill.errors import CatalogError, ModelError
from embedmill.model import Encoder, ModelPackage
from embedmill.types import Reason

TEXTS = ["red apple", "a", "", "long " * 30, "Ünïcode 🍎", "b", "green pear"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_text_package(tmp_path / "package", template="{title}")


def load(folder: Path, name: str = "item", **options: Any) -> Encoder:
    return Encoder.load(ModelPackage.open(folder), name, **options)


def titles(*values: str | None) -> pa.RecordBatch:
    return pa.record_batch({"title": pa.array(values, pa.string())})


def png(colour: Any = (255, 0, 0)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (20, 20), colour).save(stream, "PNG")
    return stream.getvalue()


def rows_model(folder: Path, *nodes: onnx.NodeProto, outputs: tuple[str, ...] = ("vectors",)) -> Path:
    """A package whose model makes float32[N, 2] of token ids [N, 2] by the given nodes."""
    tiny_text_package(folder, dimension=2, normalize="none", template="{title}", max_length=2)
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["rows", 2])
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", 2]) for name in outputs]
    floats = helper.make_node("Cast", ["input_ids"], ["floats"], to=TensorProto.FLOAT)
    save_onnx(folder / "model.onnx", [floats, *nodes], [ids], made, weights={"zero": np.zeros(1, np.float32)})
    return folder


@pytest.mark.parametrize("budget", [1, 40, 512, 10**6])
def test_vectors_are_in_the_order_of_the_rows_whatever_the_batches(folder: Path, budget: int) -> None:
    together = load(folder, batch_tokens=budget).encode(titles(*TEXTS)).vectors_ND
    alone = [load(folder).encode(titles(text)).vectors_ND[0] for text in TEXTS]
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_the_same_rows_give_the_same_bits(folder: Path) -> None:
    first, second = (load(folder).encode(titles(*TEXTS)).vectors_ND for _ in "ab")
    assert first.tobytes() == second.tobytes()


def test_l2_means_unit_length_and_none_means_as_computed(tmp_path: Path) -> None:
    raw, unit = (
        load(tiny_text_package(tmp_path / how, normalize=how, template="{title}"))
        .encode(titles(*TEXTS))
        .vectors_ND
        for how in ("none", "l2")
    )
    norms = np.linalg.norm(raw, axis=1, keepdims=True)
    assert np.abs(norms - 1).min() > 0.01
    np.testing.assert_allclose(raw / norms, unit, atol=1e-6)
    assert unit.dtype == np.float32


def test_the_tokenizer_files_own_truncation_and_padding_are_ignored(folder: Path) -> None:
    before = load(folder).encode(titles(*TEXTS)).vectors_ND
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=50)
    tokenizer.save(str(folder / "tokenizer.json"))
    assert (load(folder).encode(titles(*TEXTS)).vectors_ND == before).all()


def test_texts_are_cut_at_max_length(tmp_path: Path) -> None:
    encoder = load(tiny_text_package(tmp_path / "package", template="{title}", max_length=5))
    vectors = encoder.encode(titles("abcdXYZ", "abcd", "abcX")).vectors_ND
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)
    assert np.abs(vectors[1] - vectors[2]).max() > 0.01


def test_progress_is_told_after_each_batch_and_may_stop_the_rest(folder: Path) -> None:
    encoder, told = load(folder, batch_tokens=20), list[int]()
    encoder.encode(titles(*TEXTS), on_batch=told.append)
    assert sum(told) == len(TEXTS)
    assert len(told) > 1

    class Stop(Exception):
        pass

    def stop(rows: int) -> None:
        told.append(rows)
        raise Stop

    told.clear()
    with pytest.raises(Stop):
        encoder.encode(titles(*TEXTS), on_batch=stop)
    assert len(told) == 1


def test_no_rows_make_no_vectors(folder: Path) -> None:
    assert load(folder).encode(titles()).vectors_ND.shape == (0, 16)


def test_the_profile_has_all_that_may_move_bits(folder: Path, tmp_path: Path) -> None:
    profile = load(folder, threads=2, batch_tokens=99, batch_images=7).profile
    assert (profile.runtime, profile.device, profile.precision) == ("onnxruntime", "cpu", "float32")
    assert (profile.threads, profile.batch_tokens, profile.batch_images) == (2, 99, 7)
    assert set(profile.libraries) == {"tokenizers"}
    assert "pillow" in load(tiny_image_package(tmp_path / "images")).profile.libraries


def test_query_texts_are_embedded_in_the_items_space(folder: Path) -> None:
    queries = load(folder, "query_text").encode_texts(["red apple", "green pear"])
    items = load(folder).encode(titles("green pear", "red apple")).vectors_ND
    np.testing.assert_allclose(queries, items[::-1], atol=1e-6)


def test_an_encoder_of_several_fields_or_of_images_embeds_no_bare_texts(tmp_path: Path) -> None:
    for folder in (tiny_text_package(tmp_path / "two"), tiny_image_package(tmp_path / "image")):
        with pytest.raises(ModelError, match=r"not one text.*query_text"):
            load(folder).encode_texts(["red"])


def test_vectors_that_are_not_finite_are_rejected_row_by_row(tmp_path: Path) -> None:
    """log of an id: -inf for the padding id 0, which a one-token text has behind it."""
    folder = rows_model(tmp_path / "package", helper.make_node("Log", ["floats"], ["vectors"]))
    encoded = load(folder).encode(titles("a", "", "b"))
    assert {row: why.reason for row, why in encoded.rejected.items()} == {1: Reason.NOT_FINITE}
    assert encoded.rejected[1].detail == "NaN or infinity in 1 of 2 values"
    assert encoded.vectors_ND[1].tolist() == [0.0, 0.0]
    assert np.isfinite(encoded.vectors_ND).all()
    assert np.abs(encoded.vectors_ND[[0, 2]]).sum() > 0
    with pytest.raises(ModelError, match="text '' could not be embedded: not-finite"):
        load(folder, "query_text").encode_texts(["a", ""])


def test_a_zero_vector_stays_zero(tmp_path: Path) -> None:
    folder = rows_model(tmp_path / "package", helper.make_node("Mul", ["floats", "zero"], ["vectors"]))
    edit(folder, lambda d: d.update(normalize="l2"))
    encoded = load(folder).encode(titles("a"))
    assert encoded.vectors_ND.tolist() == [[0.0, 0.0]]
    assert not encoded.rejected


def test_the_declared_output_is_the_one_that_is_read(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Identity", ["floats"], ["plain"]),
        helper.make_node("Neg", ["floats"], ["negative"]),
    ]
    folder = rows_model(tmp_path / "package", *nodes, outputs=("plain", "negative"))
    first = load(folder).encode(titles("a")).vectors_ND
    edit(folder, lambda d: d["runtimes"][0].update(output="negative"))
    assert (load(folder).encode(titles("a")).vectors_ND == -first).all()


def test_a_model_without_a_mask_is_never_shown_padding(tmp_path: Path) -> None:
    """The sum of ids: any padding id but 0 would show."""
    folder = tiny_text_package(tmp_path / "package", dimension=1, normalize="none", template="{title}")
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["rows", "tokens"])
    made = helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["rows", 1])
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats"], ["vectors"], axes=[1]),
    ]
    save_onnx(folder / "model.onnx", nodes, [ids], [made], weights={})
    texts = ["a", "bb", "ccc", "d", "ee"]
    together = load(folder).encode(titles(*texts)).vectors_ND
    assert together.tolist() == [load(folder).encode(titles(t)).vectors_ND[0].tolist() for t in texts]


def test_a_model_of_fixed_width_gets_that_width(tmp_path: Path) -> None:
    folder = rows_model(tmp_path / "package", helper.make_node("Identity", ["floats"], ["vectors"]))
    assert load(folder).encode(titles("", "a")).vectors_ND[0].tolist() == [1.0, 0.0]
    edit(folder, lambda d: d["encoders"]["item"]["input_ids"]["text"].update(max_length=3))
    with pytest.raises(ModelError, match=r"max_length 3 does not fit .*input_ids: int64\[rows, 2\]"):
        load(folder)


def test_images_become_vectors_and_bad_ones_say_why(tmp_path: Path) -> None:
    encoder = load(tiny_image_package(tmp_path / "package"), batch_images=2)
    pictures = [png(), b"junk", None, png((0, 0, 255)), b"", png()]
    told: list[int] = []
    encoded = encoder.encode(
        pa.record_batch({"image": pa.array(pictures, pa.binary())}), on_batch=told.append
    )
    assert {row: why.reason for row, why in encoded.rejected.items()} == {
        1: Reason.IMAGE_INVALID,
        2: Reason.IMAGE_MISSING,
        4: Reason.IMAGE_MISSING,
    }
    assert told == [2, 2, 2]
    assert not encoded.vectors_ND[[1, 2, 4]].any()
    np.testing.assert_allclose(np.linalg.norm(encoded.vectors_ND[[0, 3, 5]], axis=1), 1.0, atol=1e-6)
    assert np.abs(encoded.vectors_ND[0] - encoded.vectors_ND[5]).max() < 1e-6
    assert np.abs(encoded.vectors_ND[0] - encoded.vectors_ND[3]).max() > 0.01


def test_an_image_is_what_the_declaration_makes_of_it(tmp_path: Path) -> None:
    """The vector of a plain image, computed by hand from mean, std and a model that averages."""
    folder = tiny_image_package(tmp_path / "package", dimension=3)
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["rows", 3, 16, 16])
    made = helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["rows", 3])
    nodes = [
        helper.make_node("GlobalAveragePool", ["pixels"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["vectors"]),
    ]
    save_onnx(folder / "model.onnx", nodes, [pixels], [made], weights={})
    edit(folder, lambda d: d.update(normalize="none"))
    vector = load(folder).encode(pa.record_batch({"image": [png((255, 51, 0))]})).vectors_ND[0]
    np.testing.assert_allclose(vector, [2.0, (0.2 - 0.5) / 0.25, -2.0], atol=1e-5)


def test_text_and_image_go_into_one_vector_and_either_may_be_absent(tmp_path: Path) -> None:
    encoder = load(tiny_mixed_package(tmp_path / "package"), batch_images=2)
    rows = pa.record_batch(
        {
            "title": pa.array(["red", "a longer text", "red", None, "red"]),
            "image": pa.array([png(), png(), None, png(), b"junk"], pa.binary()),
        }
    )
    told: list[int] = []
    encoded = encoder.encode(rows, on_batch=told.append)
    assert max(told) <= 2
    assert list(encoded.rejected) == [4]
    kept = encoded.vectors_ND[:4]
    distances = np.abs(kept[:, None] - kept[None]).max(axis=2) + np.eye(4)
    assert distances.min() > 1e-3
    for row in range(4):
        alone = encoder.encode(rows.slice(row, 1)).vectors_ND[0]
        np.testing.assert_allclose(alone, kept[row], atol=1e-6)


def test_a_missing_column_is_a_catalog_error(folder: Path) -> None:
    with pytest.raises(CatalogError, match=r"reads column 'title'.*there are: name"):
        load(folder).encode(pa.record_batch({"name": ["a"]}))


def declare(name: str, **declared: Any) -> Callable[[dict[str, Any]], object]:
    return lambda d: d["encoders"]["item"].update({name: declared})


def rename(old: str, new: str) -> Callable[[dict[str, Any]], object]:
    return lambda d: d["encoders"]["item"].update({new: d["encoders"]["item"].pop(old)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rename("input_ids", "ids"), "the model has no input ids"),
        (
            lambda d: d["encoders"]["item"]["input_ids"]["text"].update(mask="mask"),
            "nothing feeds the model's input attention_mask",
        ),
        (
            declare("attention_mask", text={"template": "{title}", "max_length": 9}),
            "two inputs feed attention_mask",
        ),
    ],
)
def test_inputs_that_do_not_match_are_a_model_error_that_lists_both_sides(
    folder: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    edit(folder, change)
    with pytest.raises(ModelError) as caught:
        load(folder)
    assert message in str(caught.value)
    assert "model.yaml declares: " in str(caught.value)
    assert "the model has: input_ids: int64[rows, tokens]; attention_mask: int64" in str(caught.value)


def test_a_wrong_dimension_is_a_model_error_with_both_figures(folder: Path) -> None:
    edit(folder, lambda d: d.update(dimension=17))
    with pytest.raises(ModelError, match=r"declares dimension 17, and output 'vectors' .*\['rows', 16\]"):
        load(folder)


def test_a_dimension_that_shows_only_when_computed_is_found_then(tmp_path: Path) -> None:
    folder = tiny_text_package(tmp_path / "package", dimension=3, template="{title}")
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["rows", "tokens"])
    made = helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["rows", "somewhat"])
    node = helper.make_node("Cast", ["input_ids"], ["vectors"], to=TensorProto.FLOAT)
    save_onnx(folder / "model.onnx", [node], [ids], [made], weights={})
    encoder = load(folder)
    with pytest.raises(
        ModelError, match=r"declares dimension 3, and output 'vectors' has the shape \[1, 2\]"
    ):
        encoder.encode(titles("a"))


def test_image_sizes_that_do_not_fit_are_a_model_error_with_both_shapes(tmp_path: Path) -> None:
    folder = tiny_image_package(tmp_path / "package", side=16)
    edit(folder, lambda d: d["encoders"]["item"]["pixels"]["image"].update(crop={"height": 8, "width": 16}))
    with pytest.raises(ModelError, match=r"images are \[N, 3, 8, 16\].*pixels: float32\[rows, 3, 16, 16\]"):
        load(folder)


@pytest.mark.parametrize(
    "as_decoded", [{}, {"scale": 1, "mean": [1, 1, 1]}, {"scale": 1, "std": [2, 2, 2]}, {"scale": 1}]
)
def test_bytes_of_pixels_are_never_made_of_fractions(tmp_path: Path, as_decoded: dict[str, Any]) -> None:
    """Of 0.99 a byte keeps 0: nearly all vectors would be one."""
    folder = tiny_image_package(tmp_path / "package")
    model = onnx.load(folder / "model.onnx")
    (pixels,) = model.graph.input
    pixels.type.tensor_type.elem_type = TensorProto.UINT8
    model.graph.node[0].input[0] = "floats"
    model.graph.node.insert(0, helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT))
    onnx.save(model, folder / "model.onnx")
    plain = {"scale": 1 / 255, "mean": [0, 0, 0], "std": [1, 1, 1]}
    edit(folder, lambda d: d["encoders"]["item"]["pixels"]["image"].update(plain | as_decoded))
    if as_decoded == {"scale": 1}:
        assert load(folder).binding.images[0].target.dtype == "uint8"
        return
    with pytest.raises(ModelError, match=r"pixels: uint8\[rows, 3, 16, 16\]: set `scale: 1`"):
        load(folder)


def test_text_for_an_image_input_is_a_model_error(tmp_path: Path) -> None:
    folder = tiny_mixed_package(tmp_path / "package")
    edit(
        folder, declare("pixels", text={"template": "{title}", "max_length": 9, "mask": "m", "type_ids": "t"})
    )
    with pytest.raises(
        ModelError, match="token ids are int64 or int32, and the model's input is pixels: float32"
    ):
        load(folder)


def test_a_model_for_one_row_at_a_time_is_a_model_error(tmp_path: Path) -> None:
    folder = rows_model(tmp_path / "package", helper.make_node("Identity", ["floats"], ["vectors"]))
    model = onnx.load(folder / "model.onnx")
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, folder / "model.onnx")
    with pytest.raises(ModelError, match=r"fixed number of rows.*free first dimension"):
        load(folder)


@pytest.mark.parametrize("content", [b"", b"{}", b"\x80\x02junk"])
def test_a_damaged_tokenizer_is_a_model_error_of_one_line(folder: Path, content: bytes) -> None:
    (folder / "tokenizer.json").write_bytes(content)
    with pytest.raises(ModelError, match=r"tokenizer.json: is no tokenizer file") as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_a_max_length_without_room_for_text_is_a_model_error(folder: Path) -> None:
    edit(folder, lambda d: d["encoders"]["item"]["input_ids"]["text"].update(max_length=1))
    with pytest.raises(ModelError, match="adds 1 special tokens, and max_length is 1"):
        load(folder)


def test_encoders_of_one_model_share_what_is_open(tmp_path: Path) -> None:
    package = ModelPackage.open(tiny_text_package(tmp_path / "package"))
    with Encoder.load(package, "item") as item, Encoder.load(package, "query_text") as query:
        texts = ["a lamp", "two lamps"]
        shared = item.as_encoder("query_text")
        assert shared.runtime is item.runtime
        assert (shared.name, shared.fields, shared.profile) == ("query_text", ("query",), query.profile)
        assert shared.encode_texts(texts).tobytes() == query.encode_texts(texts).tobytes()
