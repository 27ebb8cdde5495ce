"""Runtime `tensorflow`: the suite of all runtimes, and what is TensorFlow's own."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tests.contracts.runtime_suite import FEEDS, RuntimeSuite
from tests.tensorflow_group.tiny_savedmodel import save_tiny_text

from embedmill.errors import DeviceUnavailable, ModelError
from embedmill.runtimes import Runtime, load_runtime
from embedmill.spec import TensorFlowSpec


class TestTensorFlow(RuntimeSuite):
    spec = TensorFlowSpec(kind="tensorflow", folder="towers")
    main = "towers/saved_model.pb"

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        save_tiny_text(tmp_path / "package" / "towers")
        return tmp_path / "package"

    def test_damaged_weights_are_a_model_error(self, root: Path) -> None:
        (file,) = (root / "towers" / "variables").glob("variables.data-*")
        file.write_bytes(file.read_bytes()[:100])
        with pytest.raises(ModelError, match="towers: TensorFlow cannot load it") as caught:
            load_runtime(self.spec, root)
        assert "\n" not in str(caught.value)

    def test_compiled_by_xla_it_computes_the_same(self, root: Path) -> None:
        compiled = load_runtime(self.spec.model_copy(update={"xla": True}), root)
        np.testing.assert_allclose(compiled.run(FEEDS), load_runtime(self.spec, root).run(FEEDS), atol=1e-6)

    def test_a_signature_that_there_is_not_is_an_error_that_lists_those_that_there_are(
        self, root: Path
    ) -> None:
        spec = self.spec.model_copy(update={"signature": "item"})
        with pytest.raises(ModelError, match=r"no signature 'item'.*serving_default"):
            load_runtime(spec, root)

    def test_a_gpu_that_there_is_not_is_an_error(self, root: Path) -> None:
        with pytest.raises(DeviceUnavailable, match="no device cuda:1; TensorFlow sees 0 GPUs"):
            load_runtime(self.spec, root, device="cuda:1")

    @pytest.mark.parametrize("precision", ["tf32", "float16", "bfloat16"])
    def test_precisions_of_gpus_are_refused_on_cpus(self, root: Path, precision: str) -> None:
        with pytest.raises(DeviceUnavailable, match=f"cannot compute in {precision} on cpu"):
            load_runtime(self.spec, root, precision=precision)  # type: ignore[arg-type]

    def test_float32_keeps_tf32_off(self, root: Path) -> None:
        tf.config.experimental.enable_tensor_float_32_execution(True)
        load_runtime(self.spec, root)
        assert not tf.config.experimental.tensor_float_32_execution_enabled()

    def test_batches_of_every_shape_share_one_graph(self, root: Path) -> None:
        runtime = load_runtime(self.spec, root)
        shapes = [(1, 1), (3, 2), (8, 64)]
        for rows, tokens in shapes:
            ones = np.ones((rows, tokens), np.int64)
            assert runtime.run({"input_ids": ones, "attention_mask": ones}).shape == (rows, 6)


THREADS = """
import sys
from pathlib import Path
from embedmill.runtimes import load_runtime
from embedmill.spec import TensorFlowSpec
load_runtime(TensorFlowSpec(kind="tensorflow", folder="towers"), Path(sys.argv[1]), threads=2)
import tensorflow as tf
print(tf.config.threading.get_intra_op_parallelism_threads())
load_runtime(TensorFlowSpec(kind="tensorflow", folder="towers"), Path(sys.argv[1]), threads=1)
print(tf.config.threading.get_intra_op_parallelism_threads())
"""


def test_the_first_load_of_a_process_settles_its_threads(tmp_path: Path) -> None:
    save_tiny_text(tmp_path / "towers")
    said = subprocess.run(
        [sys.executable, "-c", THREADS, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert said.stdout.split() == ["2", "2"]
    assert said.stderr == ""


class Shop(tf.Module):  # type: ignore[misc]
    """Named inputs of several types, texts and pictures that the graph itself reads."""

    def __init__(self) -> None:
        super().__init__()
        keys, values = tf.constant(["red", "green"]), tf.constant([1, 2], tf.int64)
        self.colours = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), 0)

    @tf.function(  # type: ignore[untyped-decorator]
        input_signature=[
            tf.TensorSpec([None], tf.string, "colour"),
            tf.TensorSpec([None], tf.string, "photo"),
            tf.TensorSpec([None, 1], tf.float32, "price"),
            tf.TensorSpec([None], tf.bool, "on_sale"),
        ]
    )
    def item(
        self, colour: tf.Tensor, photo: tf.Tensor, price: tf.Tensor, on_sale: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        red = tf.map_fn(
            lambda image: tf.reduce_mean(tf.cast(tf.io.decode_png(image, channels=3), tf.float32)[:, :, 0]),
            photo,
            fn_output_signature=tf.float32,
        )
        known = tf.cast(self.colours.lookup(tf.strings.lower(colour)), tf.float32)
        parts = [known, red, price[:, 0], tf.cast(on_sale, tf.float32)]
        return {"vector": tf.stack(parts, axis=1), "other": tf.zeros([1, 1])}


@pytest.fixture
def shop(tmp_path: Path) -> Runtime:
    model = Shop()
    tf.saved_model.save(model, str(tmp_path / "shop"), signatures={"item": model.item})
    return load_runtime(
        TensorFlowSpec(kind="tensorflow", folder="shop", signature="item", output="vector"), tmp_path
    )


def png(red: int) -> bytes:
    target = io.BytesIO()
    Image.new("RGB", (3 + red % 5, 4), (red, 9, 9)).save(target, "PNG")
    return target.getvalue()


def test_inputs_of_several_types_are_told_by_name_type_and_shape(shop: Runtime) -> None:
    assert list(map(str, shop.inputs.values())) == [
        "colour: string[?]",
        "on_sale: bool[?]",
        "photo: string[?]",
        "price: float32[?, 1]",
    ]
    assert str(shop.output) == "vector: float32[?, 4]"


def test_texts_and_pictures_are_read_in_the_graph(shop: Runtime) -> None:
    feeds = {
        "colour": np.array(["RED", "yellow", "green"], object),
        "photo": np.array([png(10), png(200), png(0)], object),
        "price": np.array([[1.5], [2.5], [0.0]], np.float32),
        "on_sale": np.array([True, False, True]),
    }
    expected = [[1.0, 10.0, 1.5, 1.0], [0.0, 200.0, 2.5, 0.0], [2.0, 0.0, 0.0, 1.0]]
    assert shop.run(feeds).tolist() == expected


def test_a_picture_that_the_graph_cannot_read_is_a_model_error_of_one_line(shop: Runtime) -> None:
    feeds = {
        "colour": np.array(["red"], object),
        "photo": np.array([b"no picture"], object),
        "price": np.zeros((1, 1), np.float32),
        "on_sale": np.array([True]),
    }
    with pytest.raises(ModelError, match="shop: TensorFlow failed") as caught:
        shop.run(feeds)
    assert "\n" not in str(caught.value)
