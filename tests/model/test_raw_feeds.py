"""Strings and files reach the model as they are, in batches of about one length; bad ones fail alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pyarrow as pa
import pytest
from onnx import TensorProto, helper
from tests.every_input import every_input_package, every_item
from tests.models import save_onnx
from tests.one_input import files_package, loaded, mirror_package

from embedmill.errors import CatalogError, DeviceUnavailable, ModelError, ServerUnavailable
from embedmill.model import Encoder, ModelPackage
from embedmill.model.apart import run_apart
from embedmill.model.raw_feeds import BytesFeed, StringFeed
from embedmill.runtimes import TensorSpec
from embedmill.spec import BytesInput, StringInput
from embedmill.types import Vectors

WHOLE = np.arange(2, dtype=np.int64)


def strings(*values: str | None) -> pa.RecordBatch:
    return pa.record_batch({"x": pa.array(values, pa.string())})


def string_feed(shape: tuple[int | str, ...] = ("rows",), **declared: Any) -> StringFeed:
    return StringFeed(TensorSpec("it", "string", shape), StringInput(template="<{x}>", **declared))


@pytest.mark.parametrize(("shape", "made"), [(("rows",), (2,)), (("rows", 1), (2, 1)), ((), (2,))])
def test_texts_stand_in_a_row_or_in_a_column_as_the_model_says(
    shape: tuple[int | str, ...], made: tuple[int, ...]
) -> None:
    feed = string_feed(shape)
    array = feed.prepare(strings("a\0ü\u200f", None)).feed(WHOLE)["it"]
    assert array.shape == made
    assert array.dtype == np.object_
    assert array.ravel().tolist() == ["<a\0ü\u200f>", "<>"]
    assert list(feed.problems()) == []


def test_a_length_hint_counts_words_or_characters_up_to_where_the_model_cuts() -> None:
    rows = strings("one two  three", "x" * 4000)
    assert string_feed().prepare(rows).lengths is None
    for declared, expected in (
        ({"length_hint": "words"}, [4, 2]),
        ({"length_hint": "characters"}, [5, 1001]),
        ({"length_hint": "characters", "max_length": 64}, [5, 64]),
    ):
        lengths = string_feed(**declared).prepare(rows).lengths
        assert lengths is not None
        assert lengths.tolist() == expected


def test_items_of_a_model_that_tokenizes_itself_are_batched_by_length(tmp_path: Path) -> None:
    """A budget of 10 tokens: nine short titles together, and each long one alone."""
    encoder = loaded(every_input_package(tmp_path / "p"), batch_tokens=20, batch_images=64)
    rows = pa.RecordBatch.from_pylist(every_item(12)[:1] * 12)
    titles = ["w " * 30 if row % 4 == 0 else "w" for row in range(12)]
    rows = rows.set_column(rows.schema.get_field_index("title"), "title", pa.array(titles))
    done: list[int] = []
    encoder.encode(rows, on_batch=done.append)
    assert done == [9, 1, 1, 1]


def test_a_missing_text_may_reject_its_item() -> None:
    rejected = string_feed(missing="reject").prepare(strings("a", None, " ")).rejected
    assert {row: str(why.reason) for row, why in rejected.items()} == {1: "value-missing", 2: "value-missing"}


def test_text_that_is_not_utf8_is_a_catalog_error() -> None:
    broken = pa.array([b"a\xff"], pa.binary()).view(pa.string())
    with pytest.raises(CatalogError, match=r"template '<\{x\}>': a column has text that is not UTF-8"):
        string_feed().prepare(pa.record_batch({"x": broken}))


def test_a_lone_surrogate_in_a_query_is_a_model_error(tmp_path: Path) -> None:
    encoder = Encoder.load(ModelPackage.open(every_input_package(tmp_path / "p")), "query_text")
    with pytest.raises(ModelError, match="no character: surrogates not allowed"):
        encoder.encode_texts(["a\ud800"])


def bytes_feed(dtype: str, *shape: int | str, text_only: bool = False) -> BytesFeed:
    lengths = TensorSpec("sizes", "int32", ("rows",))
    return BytesFeed(TensorSpec("it", dtype, ("rows", *shape)), BytesInput(field="x"), lengths, text_only)


def test_files_are_bytes_objects_where_strings_may_be_bytes() -> None:
    rows = pa.record_batch({"x": pa.array([b"\xff\0", b""], pa.large_binary())})
    feed = bytes_feed("string")
    arrays = feed.prepare(rows).feed(WHOLE)
    assert arrays["it"].tolist() == [b"\xff\0", b""]
    assert arrays["sizes"].tolist() == [2, 0]
    assert list(feed.problems()) == []


def test_files_are_padded_bytes_where_the_model_takes_those() -> None:
    rows = pa.record_batch({"x": pa.array([b"\xff\0\1", b"a"])})
    arrays = bytes_feed("uint8", "bytes").prepare(rows).feed(WHOLE)
    assert arrays["it"].tolist() == [[255, 0, 1], [97, 0, 0]]
    assert arrays["sizes"].tolist() == [3, 1]


def test_a_runtime_whose_strings_are_text_gets_no_bytes_in_them(tmp_path: Path) -> None:
    said = " ".join(bytes_feed("string", 1, text_only=True).problems())
    assert "files in this runtime are uint8, and the model's input is it: string[rows, 1]" in said
    folder = mirror_package(
        tmp_path / "p", {"it": {"bytes": {"field": "x"}}}, ("it", TensorProto.STRING, ()), dimension=1
    )
    with pytest.raises(ModelError, match="files"):
        loaded(folder)


def test_a_file_past_the_models_room_is_rejected(tmp_path: Path) -> None:
    rows = pa.record_batch({"file": pa.array([b"abcde", b"ab", None, b"abcd"])})
    made = loaded(files_package(tmp_path / "p", size=4)).encode(rows)
    assert {row: (str(why.reason), why.detail) for row, why in made.rejected.items()} == {
        0: ("value-invalid", "column 'file': 5 bytes, and input 'file' takes 4"),
        2: ("value-missing", "column 'file' has no file"),
    }
    assert made.vectors_ND[3].tolist() == [97, 98, 99, 100]


@dataclass
class Squeamish:
    """A runtime that fails on every batch with a negative number in it."""

    batches: list[int] = field(default_factory=list)
    error: ModelError = field(default_factory=lambda: ModelError("cannot decode"))
    name: str = "squeamish"
    version: str = "1"
    inputs: Mapping[str, TensorSpec] = field(default_factory=dict)
    outputs: Mapping[str, TensorSpec] = field(default_factory=dict)
    output: TensorSpec = field(default_factory=lambda: TensorSpec("vectors", "float32", ("rows", 2)))

    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> Vectors:
        self.batches.append(len(feeds["x"]))
        if (feeds["x"] < 0).any():
            raise self.error
        return np.stack([feeds["x"], feeds["x"]], axis=1).astype(np.float32)


def test_rows_that_a_model_refuses_are_found_and_their_neighbours_are_unharmed() -> None:
    values = np.arange(16.0)
    values[[2, 3, 11]] = -1
    runtime = Squeamish()
    vectors, refused = run_apart(runtime.run, {"x": values}, 16)
    assert {row: why.detail for row, why in refused.items()} == dict.fromkeys(
        [2, 3, 11], "the model refuses it: cannot decode"
    )
    kept = np.setdiff1d(np.arange(16), [2, 3, 11])
    assert (vectors[kept, 0] == values[kept]).all()
    assert (vectors[[2, 3, 11]] == 0).all()
    assert len(runtime.batches) < 2 * 3 * 5


def test_a_model_that_refuses_everything_is_to_blame_itself() -> None:
    with pytest.raises(ModelError, match="cannot decode"):
        run_apart(Squeamish().run, {"x": np.full(4, -1.0)}, 4)


@pytest.mark.parametrize("error", [DeviceUnavailable("unplugged"), ServerUnavailable("restarting")])
@pytest.mark.parametrize("values", [[1.0, -1.0], [-1.0]])
def test_a_device_or_server_that_is_gone_is_no_fault_of_a_row(error: ModelError, values: list[float]) -> None:
    runtime = Squeamish(error=error)
    with pytest.raises(type(error)):
        run_apart(runtime.run, {"x": np.array(values)}, len(values))
    assert runtime.batches == [len(values)]


def test_a_real_model_that_fails_on_one_file_fails_on_no_other(tmp_path: Path) -> None:
    """Gather by the first byte: those past the table are out of bounds."""
    folder = files_package(tmp_path / "p", size=1)
    nodes = [
        helper.make_node("Cast", ["file"], ["index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "index"], ["vectors"]),
    ]
    file = helper.make_tensor_value_info("file", TensorProto.UINT8, ["rows", 1])
    vectors = helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["rows", 1])
    save_onnx(
        folder / "model.onnx", nodes, [file], [vectors], weights={"table": np.arange(9, dtype=np.float32)}
    )
    assert onnx.load(folder / "model.onnx").graph.node
    made = loaded(folder).encode(pa.record_batch({"file": pa.array([b"\2", b"\xc8", b"\5", b"\7"])}))
    assert set(made.rejected) == {1}
    assert made.rejected[1].detail.startswith("the model refuses it: ")
    assert made.vectors_ND[[0, 2, 3], 0].tolist() == [2, 5, 7]
