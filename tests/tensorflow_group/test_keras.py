"""`model import` exports `.keras` files in a confined process, and copies SavedModels; goldens check both."""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops
from tests import tiny_text
from tests.tensorflow_group.models import objects, save_tiny_text, tiny_text_declaration

from embedmill.errors import ModelError
from embedmill.model import Encoder, ModelPackage
from embedmill.model.check import check_package
from embedmill.model.importing import import_declared
from embedmill.model.keras_export import export_keras
from embedmill.runtimes import Runtime, load_runtime
from embedmill.spec import TensorFlowSpec


def mlp() -> Any:
    x = keras.Input((4,), name="x")
    y = layers.Dense(8, activation="relu", kernel_regularizer="l2")(x)
    y = layers.Dropout(0.5)(layers.BatchNormalization()(y))
    return keras.Model(x, layers.Dense(3, activation=keras.activations.gelu)(y))


def words_and_numbers() -> Any:
    category, number = keras.Input((), dtype="string", name="category"), keras.Input((2,), name="number")
    known = layers.Embedding(5, 4)(layers.StringLookup(vocabulary=["shoes", "hats"])(category))
    y = layers.Concatenate()([known, layers.Normalization(mean=[0.0, 1.0], variance=[1.0, 4.0])(number)])
    return keras.Model(
        {"category": category, "number": number}, layers.UnitNormalization()(layers.Dense(4)(y))
    )


def text() -> Any:
    title = keras.Input((), dtype="string", name="title")
    tokens = layers.TextVectorization(output_sequence_length=8, vocabulary=["red", "apple"])(title)
    return keras.Model(title, layers.GlobalAveragePooling1D()(layers.Embedding(10, 4)(tokens)))


def image() -> Any:
    net = keras.applications.EfficientNetB0(weights=None, include_top=False, input_shape=(64, 64, 3))
    pixels = keras.Input((64, 64, 3), name="pixels")
    return keras.Model(pixels, ops.mean(net(pixels), axis=(1, 2)))


def sequence() -> Any:
    tokens = keras.Input((None,), dtype="int64", name="tokens")
    return keras.Model(tokens, layers.Bidirectional(layers.LSTM(4))(layers.Embedding(9, 4)(tokens)))


RANDOM = np.random.default_rng(0)
MODELS: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "mlp": (mlp, {"x": RANDOM.normal(size=(3, 4)).astype(np.float32)}),
    "words and numbers": (
        words_and_numbers,
        {"category": objects("hats", "gone", ""), "number": RANDOM.normal(size=(3, 2)).astype(np.float32)},
    ),
    "text": (text, {"title": objects("red APPLE!", "", "nothing known")}),
    "image": (image, {"pixels": RANDOM.uniform(0, 255, size=(2, 64, 64, 3)).astype(np.float32)}),
    "sequence": (sequence, {"tokens": RANDOM.integers(0, 9, size=(3, 5))}),
}


def loaded(folder: Path) -> Runtime:
    return load_runtime(TensorFlowSpec(kind="tensorflow", folder=folder.name), folder.parent)


def write(model: Any, file: Path) -> Path:
    with warnings.catch_warnings():  # of Keras, which hands its variables to numpy in the old way
        warnings.filterwarnings(
            "ignore", "__array__ implementation doesn't accept a copy", DeprecationWarning
        )
        warnings.filterwarnings("ignore", "You are saving your model as an HDF5 file", UserWarning)
        model.save(file)
    return file


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_that_keras_exported_passes_and_computes_what_keras_does(kind: str, tmp_path: Path) -> None:
    make, feeds = MODELS[kind]
    model = make()
    model.export(tmp_path / "model", verbose=False)
    runtime = loaded(tmp_path / "model")
    assert set(runtime.inputs) == set(feeds)
    tensors = {name: tf.convert_to_tensor(array) for name, array in feeds.items()}
    wanted = model(tensors if len(feeds) > 1 else next(iter(tensors.values()))).numpy()
    np.testing.assert_allclose(runtime.run(feeds), wanted, atol=1e-4)


def test_a_keras_file_becomes_the_savedmodel_that_its_model_exports(tmp_path: Path) -> None:
    make, feeds = MODELS["words and numbers"]
    model = make()
    write(model, tmp_path / "m.keras")
    (tmp_path / "scratch").mkdir()
    exported = export_keras(tmp_path / "m.keras", tmp_path / "scratch")
    np.testing.assert_allclose(loaded(exported).run(feeds), model(feeds).numpy(), atol=1e-6)


def keras_text(folder: Path, *, dimension: int = 16) -> Path:
    """A `.keras` file that embeds token ids, with what declares it."""
    ids = keras.Input((None,), dtype="int64", name="input_ids")
    mask = keras.Input((None,), dtype="int64", name="attention_mask")
    weights = layers.Reshape((-1, 1))(layers.Rescaling(1.0)(ops.cast(mask, "float32")))
    table = layers.Embedding(tiny_text.TOKENS, dimension)
    mean = ops.sum(table(ids) * weights, axis=1) / ops.sum(weights, axis=1)
    tiny_text_declaration(folder, dimension=dimension)
    return write(keras.Model({"input_ids": ids, "attention_mask": mask}, mean), folder / "towers.keras")


def test_an_imported_keras_file_is_a_package_with_goldens(tmp_path: Path) -> None:
    source = keras_text(tmp_path / "source")
    package = import_declared(source, source.parent / "model.yaml", tmp_path / "package")
    assert {"goldens/item.jsonl", "model/saved_model.pb", "model/variables/variables.index"} <= set(
        package.files()
    )
    assert not [name for name in package.files() if "keras" in name]
    assert check_package(package).encoders[0].runtimes[0].lowest_cosine == pytest.approx(1)
    assert not list(tmp_path.glob(".*"))


def test_an_imported_savedmodel_is_a_package_with_goldens(tmp_path: Path) -> None:
    declared = tiny_text_declaration(tmp_path / "source")
    save_tiny_text(tmp_path / "export", dimension=16)
    package = import_declared(tmp_path / "export", declared, tmp_path / "package")
    assert check_package(package).encoders[1].goldens == 12
    assert Encoder.load(package, "query_text").encode_texts(["red", "apple"]).shape == (2, 16)


def test_another_signature_or_xla_is_another_encoder_and_a_limit_of_memory_is_not(tmp_path: Path) -> None:
    declared = tiny_text_declaration(tmp_path / "package")
    save_tiny_text(tmp_path / "package" / "model", dimension=16)
    plain = declared.read_text()

    def digest(**keys: Any) -> str:
        said = {"kind": "tensorflow", "folder": "model", **keys}
        lines = plain.splitlines()
        start = lines.index("runtimes:")
        declared.write_text(
            "\n".join([*lines[:start], f"runtimes: [{json.dumps(said)}]", *lines[start + 3 :]])
        )
        return ModelPackage.open(tmp_path / "package").encoder_digest()

    assert digest() == digest(memory_limit_mib=512) == digest(allow_ops=["ReadFile"])
    assert len({digest(), digest(signature="other"), digest(xla=True), digest(output="vectors")}) == 4


def tampered(source: Path, layer: dict[str, Any]) -> Path:
    """The file with another layer in its configuration."""
    with zipfile.ZipFile(source) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    config["config"]["layers"].append(layer)
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(source, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return source


def test_a_lambda_layer_is_refused_and_has_not_run(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    x = keras.Input((4,), name="x")
    layer = layers.Lambda(
        lambda x, path: Path(path).write_text("ran") and x, output_shape=(4,), arguments={"path": str(canary)}
    )
    source = write(keras.Model(x, layer(x)), tmp_path / "m.keras")
    canary.unlink(missing_ok=True)
    declared = tiny_text_declaration(tmp_path / "declared")
    with pytest.raises(ModelError, match="layer 'Lambda' runs what the file brings along"):
        import_declared(source, declared, tmp_path / "package")
    assert not canary.exists()
    assert not (tmp_path / "package").exists()


def test_a_savedmodel_as_a_layer_is_refused(tmp_path: Path) -> None:
    layer = {"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": str(tmp_path)}}
    source = tampered(keras_text(tmp_path / "source"), layer)
    with pytest.raises(ModelError, match="layer 'TFSMLayer' runs"):
        import_declared(source, source.parent / "model.yaml", tmp_path / "package")


def test_a_legacy_file_is_refused(tmp_path: Path) -> None:
    declared = tiny_text_declaration(tmp_path / "declared")
    write(mlp(), tmp_path / "m.h5")
    with pytest.raises(ModelError, match="is a legacy HDF5 file of Keras"):
        import_declared(tmp_path / "m.h5", declared, tmp_path / "package")


def test_what_keras_itself_refuses_is_a_model_error_of_one_line(tmp_path: Path) -> None:
    layer = {
        "module": "keras.layers",
        "class_name": "NoSuchLayer",
        "config": {},
        "name": "x",
        "inbound_nodes": [],
    }
    source = tampered(keras_text(tmp_path / "source"), layer)
    with pytest.raises(ModelError, match="Keras cannot export it: ") as caught:
        import_declared(source, source.parent / "model.yaml", tmp_path / "package")
    assert "\n" not in str(caught.value)
