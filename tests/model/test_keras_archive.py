"""A `.keras` file passes if it is made of Keras's own layers, and is refused before Keras sees it if not."""

from __future__ import annotations

import json
import pickle
import stat
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedmill.errors import MissingExtra, ModelError
from embedmill.model.keras_archive import HDF5, check_keras_archive
from embedmill.model.keras_export import export_keras


def layer(name: str, module: str | None = "keras.layers", **config: Any) -> dict[str, Any]:
    return {"module": module, "class_name": name, "config": config, "registered_name": None}


def sequential(*layers: Any, **more: Any) -> dict[str, Any]:
    return {**layer("Sequential", "keras", layers=list(layers)), **more}


def archive(file: Path, config: Any, members: dict[str, bytes] | None = None) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("metadata.json", "{}")
        made.writestr("config.json", config if isinstance(config, str) else json.dumps(config))
        for name, content in (members or {"model.weights.h5": HDF5}).items():
            made.writestr(name, content)
    return file


def refused(file: Path) -> str:
    with pytest.raises(ModelError) as caught:
        check_keras_archive(file)
    assert "\n" not in str(caught.value)
    assert str(file) in str(caught.value)
    return str(caught.value)


def test_a_model_of_layers_with_their_parts_passes_however_it_was_trained(tmp_path: Path) -> None:
    dense = layer(
        "Dense", units=3, kernel_initializer=layer("HeNormal", "keras.initializers"), activation="relu"
    )
    lookup = layer("StringLookup", vocabulary=["a", "b"], idf_weights=None)
    add = {**layer("Add", "keras.src.ops.numpy"), "registered_name": "Add"}
    tensor = {"class_name": "__keras_tensor__", "config": {"shape": [None]}}
    trained = layer("function", "builtins")
    config = sequential(dense, lookup, sequential(dense), add, tensor, compile_config={"loss": trained})
    check_keras_archive(
        archive(tmp_path / "m.keras", config, {"model.weights.h5": HDF5, "assets/a.txt": b"a"})
    )


HOSTILE = {
    "Lambda": (sequential(layer("Lambda", function={"class_name": "__lambda__"})), "layer 'Lambda' runs"),
    "TFSMLayer": (sequential(layer("TFSMLayer", filepath="/x")), "layer 'TFSMLayer' runs"),
    "torch": (sequential(layer("TorchModuleWrapper", module="gASV")), "layer 'TorchModuleWrapper' runs"),
    "jax": (sequential(layer("JaxLayer")), "layer 'JaxLayer' runs"),
    "a lambda as an activation": (
        sequential(layer("Dense", activation={"class_name": "__lambda__", "config": {"value": "4wAA"}})),
        "names '__lambda__' of None",
    ),
    "a function of the system": (sequential(layer("system", "os")), "names 'system' of 'os'"),
    "a class of the system": (sequential(layer("Popen", "subprocess")), "names 'Popen' of 'subprocess'"),
    "deep in another": (
        sequential(
            layer("TimeDistributed", layer=sequential(layer("Wrapper", inner=[layer("run", "subprocess")])))
        ),
        "names 'run' of 'subprocess'",
    ),
    "a download": (sequential(layer("get_file", "keras.utils")), "names 'get_file' of 'keras.utils'"),
    "loading another model": (sequential(layer("load_model", "keras.models")), "names 'load_model'"),
    "deserializing": (sequential(layer("deserialize", "keras.layers")), "names 'deserialize'"),
    "unlocking": (sequential(layer("enable_unsafe_deserialization", "keras.config")), "names 'enable_unsafe"),
    "a module that only begins like one": (
        sequential(layer("Dense", "keras.layers.evil")),
        "'keras.layers.evil'",
    ),
    "a module whose name begins like Keras's": (
        sequential(layer("Dense", "keras_hub.layers")),
        "'keras_hub.layers'",
    ),
    "no module": (sequential(layer("Dense", None)), "names 'Dense' of None"),
    "a function": (sequential(layer("function", "builtins")), "names 'function' of 'builtins'"),
    "a type": (sequential({"class_name": "__typespec__", "spec_class": "x"}), "names '__typespec__'"),
    "a name that is none": (
        sequential({"class_name": ["Dense"], "module": "keras.layers"}),
        "names \\['Dense'\\]",
    ),
    "a module that is none": (sequential({"class_name": "Dense", "module": {"a": 1}}), "names 'Dense' of"),
    "a custom class": (
        sequential({**layer("Dense"), "registered_name": "mine>Dense"}),
        "needs the custom class 'mine>Dense'",
    ),
    "a vocabulary of the machine": (
        sequential(layer("StringLookup", vocabulary="/etc/passwd")),
        "'vocabulary' is a file that loading would read: '/etc/passwd'",
    ),
    "weights from a URL": (
        sequential(layer("TextVectorization", idf_weights="http://x")),
        "'idf_weights' is a file",
    ),
    "training of an inner model": (
        sequential(sequential(compile_config={"loss": layer("system", "os")})),
        "names 'system' of 'os'",
    ),
    "no model": ({"config": {}}, "declares no model"),
    "a list": ([], "declares no model"),
    "no JSON": ("{", "is no .keras file"),
    "JSON without a floor": ("[" * 100_000, "is no .keras file"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_would_run_or_read_something_else_is_refused_by_name(case: str, tmp_path: Path) -> None:
    config, says = HOSTILE[case]
    file = archive(tmp_path / "m.keras", config)
    with pytest.raises(ModelError, match=says):
        check_keras_archive(file)
    refused(file)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("../m.weights.h5", b"", "leads out of the archive"),
        ("/tmp/m.weights.h5", b"", "leads out of the archive"),
        ("assets/../../x", b"", "leads out of the archive"),
        ("assets\\..\\x", b"", "leads out of the archive"),
        ("model.py", b"", "does not belong into a .keras file"),
        ("saved_model.pb", b"", "does not belong into a .keras file"),
        ("assets/bomb.txt", bytes(5 << 20), "expands to 5,242,880 bytes, more than 100 times its size"),
        ("assets/data.pkl", b"", "is a pickle"),
    ],
)
def test_members_that_do_not_belong_are_refused(name: str, content: bytes, says: str, tmp_path: Path) -> None:
    assert says in refused(archive(tmp_path / "m.keras", sequential(), {name: content}))


def test_a_link_in_the_archive_is_refused(tmp_path: Path) -> None:
    file = archive(tmp_path / "m.keras", sequential())
    link = zipfile.ZipInfo("assets/words.txt")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(file, "a") as made:
        made.writestr(link, "/etc/passwd")
    assert "'assets/words.txt' is a link" in refused(file)


def test_two_configurations_are_refused(tmp_path: Path) -> None:
    file = archive(tmp_path / "m.keras", sequential())
    with zipfile.ZipFile(file, "a") as made, pytest.warns(UserWarning, match="Duplicate name"):
        made.writestr("config.json", json.dumps(sequential(layer("Lambda"))))
    assert "has 4 members, 1 of them twice" in refused(file)


def test_a_file_that_is_something_else_is_refused_as_what_it_is(tmp_path: Path) -> None:
    for content, says in (
        (HDF5 + bytes(99), "is a legacy HDF5 file of Keras"),
        (pickle.dumps({"a": 1}), "is a pickle"),
        (b"", "is no .keras file"),
        (b"PK\x03\x04 cut", "is no .keras file"),
    ):
        for suffix in ("keras", "h5"):
            file = tmp_path / f"m.{suffix}"
            file.write_bytes(content)
            assert says in refused(file)


@given(st.binary(max_size=60), st.integers(0, 600), st.integers(0, 60))
def test_a_damaged_archive_is_a_model_error_or_passes(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, at: int, removed: int
) -> None:
    file = archive(tmp_path_factory.mktemp("fuzz") / "m.keras", sequential(layer("Dense", units=3)))
    data = file.read_bytes()
    at %= len(data)
    file.write_bytes(data[:at] + noise + data[at + removed :])
    try:
        check_keras_archive(file)
    except ModelError as error:
        said = str(error)
        assert str(file) in said


def test_without_keras_the_extra_is_named(tmp_path: Path) -> None:
    file = archive(tmp_path / "m.keras", sequential())
    with pytest.raises(MissingExtra, match=r"embedmill\[tensorflow\]"):
        export_keras(file, tmp_path)
