"""What every runtime does: one suite, run on each kind that `load_runtime` knows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.models import tiny_text_package

from embedmill.errors import ModelError
from embedmill.runtimes import Runtime, TensorSpec, load_runtime

KINDS = {"onnx": "model.onnx"}
IDS = np.array([[1, 5, 9, 200], [1, 7, 0, 0]])
MASK = np.array([[1, 1, 1, 1], [1, 1, 0, 0]])


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def file(kind: str, tmp_path: Path) -> Path:
    return tiny_text_package(tmp_path / "package", dimension=6) / KINDS[kind]


@pytest.fixture
def runtime(kind: str, file: Path) -> Runtime:
    return load_runtime(kind, file)


def test_it_names_its_inputs_and_outputs_with_types_and_shapes(runtime: Runtime) -> None:
    assert set(runtime.inputs) == {"input_ids", "attention_mask"}
    ids = runtime.inputs["input_ids"]
    assert (ids.name, ids.dtype, len(ids.shape)) == ("input_ids", "int64", 2)
    assert not any(isinstance(size, int) for size in ids.shape)
    assert runtime.output == runtime.outputs["vectors"]
    assert runtime.output.shape[1] == 6
    assert runtime.name
    assert runtime.version


def test_it_computes_float32_vectors_a_row_each(runtime: Runtime) -> None:
    vectors = runtime.run({"input_ids": IDS, "attention_mask": MASK})
    assert vectors.shape == (2, 6)
    assert vectors.dtype == np.float32
    assert np.isfinite(vectors).all()


def test_the_same_feeds_give_the_same_bits(kind: str, file: Path) -> None:
    first, second = (load_runtime(kind, file).run({"input_ids": IDS, "attention_mask": MASK}) for _ in "ab")
    assert first.tobytes() == second.tobytes()


def test_more_threads_give_the_same_vectors(kind: str, file: Path) -> None:
    one, two = (load_runtime(kind, file, threads=threads) for threads in (1, 2))
    feeds = {"input_ids": IDS, "attention_mask": MASK}
    np.testing.assert_allclose(one.run(feeds), two.run(feeds), atol=1e-6)


def test_feeds_that_do_not_fit_are_a_model_error(runtime: Runtime) -> None:
    for feeds in (
        {"input_ids": IDS},
        {"input_ids": IDS, "attention_mask": MASK, "more": MASK},
        {"input_ids": IDS.astype(np.float32), "attention_mask": MASK},
        {"input_ids": IDS[0], "attention_mask": MASK},
        {"input_ids": np.full((2, 4), 10**6), "attention_mask": MASK},
    ):
        with pytest.raises(ModelError) as caught:
            runtime.run(feeds)
        assert "\n" not in str(caught.value)


def test_an_output_that_there_is_not_is_a_model_error_that_lists_what_there_is(kind: str, file: Path) -> None:
    with pytest.raises(ModelError, match=r"no output 'nowhere'.*vectors: float32\[rows, 6\]"):
        load_runtime(kind, file, output="nowhere")


def test_a_device_that_there_is_not_is_a_model_error(kind: str, file: Path) -> None:
    with pytest.raises(ModelError, match="no device 'warp'"):
        load_runtime(kind, file, device="warp")


@pytest.mark.parametrize("content", [b"", b"garbage" * 99, b"\x08\x09", b"PK\x03\x04 but no archive", None])
def test_a_damaged_or_missing_file_is_a_model_error_of_one_line_that_names_it(
    kind: str, file: Path, content: bytes | None
) -> None:
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        load_runtime(kind, file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_cut_file_is_a_model_error(kind: str, file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelError, match=file.name):
        load_runtime(kind, file)


def test_a_kind_that_there_is_not_is_a_model_error(file: Path) -> None:
    with pytest.raises(ModelError, match=r"no runtime of kind 'abacus' \(there are: onnx\)"):
        load_runtime("abacus", file)


def test_a_spec_reads_as_name_type_and_shape() -> None:
    assert str(TensorSpec("x", "int64", ("rows", None, 3))) == "x: int64[rows, ?, 3]"
