"""The runtime `tensorflow` does what every runtime does, and what only SavedModels can."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tests.contracts.runtime_suite import FEEDS, IDS, MASK, RuntimeSuite
from tests.tensorflow_group.models import TinyText, objects, save, save_function, save_tiny_text
from tests.tiny_text import reference

from embedmill.errors import DeviceUnavailable, ModelError
from embedmill.runtimes import Runtime, TensorSpec, load_runtime
from embedmill.runtimes.tensorflow_process import cpu_has_bfloat16
from embedmill.spec import TensorFlowSpec

STRINGS = tf.TensorSpec([None], tf.string)


def spec(**keys: Any) -> TensorFlowSpec:
    return TensorFlowSpec(kind="tensorflow", folder="model", **keys)


def loaded(folder: Path, **keys: Any) -> Runtime:
    return load_runtime(TensorFlowSpec(kind="tensorflow", folder=folder.name, **keys), folder.parent)


class TestTensorFlow(RuntimeSuite):
    spec = spec()
    main = "model/saved_model.pb"

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        save_tiny_text(tmp_path / "model")
        return tmp_path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_tiny_text(tmp_path / "model")


def test_xla_computes_the_same_vectors_for_every_shape_of_a_batch(model: Path) -> None:
    plain, compiled = loaded(model), loaded(model, xla=True)
    for width in (1, 2, 7):
        feeds = {
            "input_ids": np.arange(3 * width).reshape(3, width),
            "attention_mask": np.ones((3, width), int),
        }
        np.testing.assert_allclose(compiled.run(feeds), plain.run(feeds), atol=1e-6)


def test_xla_refuses_strings_at_load(tmp_path: Path) -> None:
    folder = save_function(
        tmp_path / "words", lambda text: {"n": tf.strings.length(text)[:, None]}, text=STRINGS
    )
    with pytest.raises(ModelError, match="xla: cannot compile strings, and input 'text' has them"):
        loaded(folder, xla=True)


def test_strings_go_in_as_str_or_bytes_of_any_unicode(tmp_path: Path) -> None:
    folder = save_function(
        tmp_path / "words", lambda text: {"n": tf.strings.length(text)[:, None]}, text=STRINGS
    )
    runtime = loaded(folder)
    assert runtime.inputs["text"] == TensorSpec("text", "string", (None,))
    assert runtime.run({"text": objects("", "é", b"\xff\x00", "🍎")})[:, 0].tolist() == [0, 2, 2, 4]
    for wrong in (None, 3, 1.5):
        with pytest.raises(ModelError, match="neither str nor bytes"):
            runtime.run({"text": np.array(["a", wrong], dtype=object)})


def test_words_are_looked_up_in_the_graph_by_a_vocabulary_that_is_an_asset(tmp_path: Path) -> None:
    (tmp_path / "vocabulary.txt").write_text("red\napple\n")

    class Lookup(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            where = tf.lookup.TextFileIndex
            words = tf.lookup.TextFileInitializer(
                str(tmp_path / "vocabulary.txt"), tf.string, where.WHOLE_LINE, tf.int64, where.LINE_NUMBER
            )
            self.table = tf.lookup.StaticVocabularyTable(words, 1)

        def embed(self, text: Any) -> dict[str, Any]:
            return {"vectors": tf.one_hot(self.table.lookup(text), 3)}

    module = Lookup()
    folder = save(tmp_path / "model", module, module.embed, text=STRINGS)
    (tmp_path / "vocabulary.txt").unlink()
    folder = folder.rename(tmp_path / "elsewhere")
    assert loaded(folder).run({"text": objects("apple", "pie", "red")}).argmax(1).tolist() == [1, 2, 0]


def test_images_are_decoded_in_the_graph(tmp_path: Path) -> None:
    def mean_colour(jpeg: Any) -> dict[str, Any]:
        def one(data: Any) -> Any:
            pixels = tf.io.decode_image(data, channels=3, expand_animations=False)
            return tf.reduce_mean(tf.image.resize(tf.cast(pixels, tf.float32), [8, 8]), [0, 1])

        return {"colour": tf.map_fn(one, jpeg, fn_output_signature=tf.TensorSpec([3], tf.float32))}

    runtime = loaded(save_function(tmp_path / "model", mean_colour, jpeg=STRINGS))
    colours = [(250, 20, 20), (20, 20, 250)]
    images = []
    for colour, kind in zip(colours, ("JPEG", "PNG"), strict=True):
        stream = io.BytesIO()
        Image.new("RGB", (31, 17), colour).save(stream, kind)
        images.append(stream.getvalue())
    np.testing.assert_allclose(runtime.run({"jpeg": objects(*images)}), colours, atol=3)
    with pytest.raises(ModelError, match="TensorFlow failed: ") as caught:
        runtime.run({"jpeg": objects(b"no image")})
    assert "\n" not in str(caught.value)


def test_several_inputs_of_every_type_are_fed_by_name(tmp_path: Path) -> None:
    def joined(word: Any, pixels: Any, count: Any, flag: Any) -> dict[str, Any]:
        parts = [tf.cast(tf.strings.length(word), tf.float32), tf.reduce_sum(tf.cast(pixels, tf.float32), 1)]
        parts += [tf.cast(count, tf.float32), tf.cast(flag, tf.float32)]
        return {"vectors": tf.stack(parts, 1)}

    folder = save_function(
        tmp_path / "model",
        joined,
        word=STRINGS,
        pixels=tf.TensorSpec([None, 2], tf.uint8),
        count=tf.TensorSpec([None], tf.int32),
        flag=tf.TensorSpec([None], tf.bool),
    )
    runtime = loaded(folder)
    assert {str(each) for each in runtime.inputs.values()} == {
        "word: string[?]",
        "pixels: uint8[?, 2]",
        "count: int32[?]",
        "flag: bool[?]",
    }
    feeds = {
        "word": objects("abc"),
        "pixels": np.array([[1, 2]], np.uint8),
        "count": np.array([7], np.int32),
        "flag": np.array([True]),
    }
    assert runtime.run(feeds).tolist() == [[3, 3, 7, 1]]
    with pytest.raises(ModelError, match=r"input pixels: uint8\[\?, 2\] is fed uint8\[1, 3\]"):
        runtime.run({**feeds, "pixels": np.zeros((1, 3), np.uint8)})


def test_a_signature_is_chosen_by_name_and_an_unknown_one_lists_those_there_are(tmp_path: Path) -> None:
    module = TinyText(6)
    ids = tf.TensorSpec([None, None], tf.int64, name="input_ids")
    twice = tf.function(lambda input_ids: {"vectors": 2.0 * tf.cast(input_ids, tf.float32)})
    both = tf.function(module.embed).get_concrete_function(
        ids, tf.TensorSpec([None, None], tf.int64, name="m")
    )
    signatures = {"embed": both, "twice": twice.get_concrete_function(ids)}
    tf.saved_model.save(module, str(tmp_path / "model"), signatures=signatures)
    assert (
        loaded(tmp_path / "model", signature="twice").run({"input_ids": IDS}).tolist() == (2 * IDS).tolist()
    )
    with pytest.raises(
        ModelError,
        match=r"no signature 'serving_default' \(its signatures: embed\(.*input_ids.*\); twice\(input",
    ):
        loaded(tmp_path / "model")


def test_a_model_without_signatures_says_so(tmp_path: Path) -> None:
    tf.saved_model.save(TinyText(6), str(tmp_path / "model"))
    with pytest.raises(ModelError, match="its signatures: none"):
        loaded(tmp_path / "model")


def test_an_output_is_chosen_by_name_and_half_precision_becomes_float32(tmp_path: Path) -> None:
    outputs = lambda x: {"a": x, "half": tf.cast(x, tf.bfloat16), "counts": tf.cast(x, tf.int32)}  # noqa: E731
    folder = save_function(tmp_path / "model", outputs, x=tf.TensorSpec([None, 2], tf.float32))
    feeds = {"x": np.array([[1.5, 2.0]], np.float32)}
    for name, wanted in (("a", [1.5, 2.0]), ("half", [1.5, 2.0]), ("counts", [1.0, 2.0])):
        vectors = loaded(folder, output=name).run(feeds)
        assert vectors.dtype == np.float32
        assert vectors.tolist() == [wanted]


def test_of_several_outputs_the_first_by_name_is_taken_in_every_process(tmp_path: Path) -> None:
    names = "hgfedcba"
    folder = save_function(
        tmp_path / "model",
        lambda x: {name: x + float(names.index(name)) for name in names},
        x=tf.TensorSpec([None, 2], tf.float32),
    )
    runtime = loaded(folder)
    assert list(runtime.outputs) == sorted(names)
    assert runtime.run({"x": np.zeros((1, 2), np.float32)}).tolist() == [[7.0, 7.0]]


def test_a_ragged_output_is_refused_with_advice(tmp_path: Path) -> None:
    folder = save_function(tmp_path / "model", lambda text: {"words": tf.strings.split(text)}, text=STRINGS)
    with pytest.raises(ModelError, match="ragged"):
        loaded(folder)


def test_an_output_that_is_no_table_is_a_model_error(tmp_path: Path) -> None:
    folder = save_function(
        tmp_path / "model", lambda x: {"sum": tf.reduce_sum(x, 1)}, x=tf.TensorSpec([None, 2])
    )
    with pytest.raises(ModelError, match=r"output 'sum' has the shape \[3\], not \[rows, dimension\]"):
        loaded(folder).run({"x": np.ones((3, 2), np.float32)})


def test_batches_of_new_shapes_are_not_traced_again(model: Path) -> None:
    runtime = loaded(model, xla=True)
    traced = runtime.compute  # type: ignore[attr-defined]
    for rows in (1, 2, 5, 9):
        runtime.run({name: np.repeat(array[:1], rows, 0) for name, array in FEEDS.items()})
    assert traced.experimental_get_tracing_count() == 1


def test_another_number_of_threads_than_the_first_model_asked_for_is_told(
    model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    begun = tf.config.threading.get_intra_op_parallelism_threads()
    with caplog.at_level(logging.WARNING, "embedmill.runtimes"):
        load_runtime(spec(), model.parent, threads=begun)
        assert caplog.messages == []
        load_runtime(spec(), model.parent, threads=begun + 1)
    (said,) = caplog.messages
    assert said == (
        f"TensorFlow computes with {begun or 'all'} threads in this process, as was first asked, "
        f"not with {begun + 1}"
    )


THREADS = """
import sys
from pathlib import Path
from embedmill.runtimes import load_runtime
from embedmill.spec import TensorFlowSpec
spec = TensorFlowSpec(kind="tensorflow", folder="model")
load_runtime(spec, Path(sys.argv[1]), threads=1)
load_runtime(spec, Path(sys.argv[1]), threads=2)
import tensorflow as tf
print(tf.config.threading.get_intra_op_parallelism_threads())
"""


def test_the_first_model_of_a_process_decides_on_its_threads(model: Path) -> None:
    command = [sys.executable, "-c", THREADS, str(model.parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
    assert "computes with 1 threads in this process, as was first asked, not with 2" in done.stderr


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="there is a GPU here")
def test_a_gpu_that_there_is_not_is_unavailable(model: Path) -> None:
    with pytest.raises(DeviceUnavailable, match="there is no GPU 3: TensorFlow sees 0"):
        load_runtime(spec(), model.parent, device="cuda:3")


@pytest.mark.parametrize(("device", "precision"), [("cpu", "tf32"), ("cpu", "float16"), ("cuda", "bfloat16")])
def test_a_precision_that_the_device_does_not_have_is_unavailable(
    model: Path, device: str, precision: Any
) -> None:
    with pytest.raises(DeviceUnavailable, match=f"tensorflow: cannot compute in {precision} on {device}"):
        load_runtime(spec(), model.parent, device=device, precision=precision)


@pytest.mark.skipif(not cpu_has_bfloat16(), reason="this processor has no bfloat16")
def test_bfloat16_rounds_its_own_model_and_no_other_in_the_process(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    weights = [tf.Variable(random.normal(size=(64, 64)).astype(np.float32)) for _ in range(4)]
    module = tf.Module()
    module.weights = weights

    def product(x: Any) -> dict[str, Any]:
        for matrix in weights:
            x = tf.nn.relu(tf.matmul(x, matrix) / 8)
        return {"vectors": x}

    folder = save(tmp_path / "model", module, product, x=tf.TensorSpec([None, 64]))
    feeds = {"x": random.normal(size=(32, 64)).astype(np.float32)}
    exact, rounded = (load_runtime(spec(), folder.parent, precision=p) for p in ("float32", "bfloat16"))
    first, rough, again = exact.run(feeds), rounded.run(feeds), exact.run(feeds)
    assert first.tobytes() == again.tobytes()
    assert 1e-4 < np.abs(rough - first).max() / np.abs(first).max() < 0.05


def test_float32_has_tf32_off(model: Path) -> None:
    tf.config.experimental.enable_tensor_float_32_execution(True)
    loaded(model).run(FEEDS)
    assert not tf.config.experimental.tensor_float_32_execution_enabled()


def test_random_numbers_without_a_seed_are_refused(tmp_path: Path) -> None:
    folder = save_function(
        tmp_path / "model",
        lambda x: {"y": x + tf.raw_ops.RandomUniform(shape=tf.shape(x), dtype=tf.float32)},
        x=tf.TensorSpec([None, 2]),
    )
    with pytest.raises(ModelError, match="random ops must have a seed"):
        loaded(folder).run({"x": np.ones((3, 2), np.float32)})


def test_what_a_frozen_reference_says_of_another_seed(tmp_path: Path) -> None:
    runtime = loaded(save_tiny_text(tmp_path / "model", dimension=5, seed=9))
    np.testing.assert_allclose(runtime.run(FEEDS), reference(IDS, MASK, dimension=5, seed=9), atol=1e-6)
