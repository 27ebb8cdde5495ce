"""Models of TensorFlow 1, which run Python or read files: refused by `model import` and `model check`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tests.tensorflow_group.models import tiny_text_declaration

from embedmill.errors import ModelError
from embedmill.model import ModelPackage
from embedmill.model.check import check_package
from embedmill.model.importing import import_declared

v1 = tf.compat.v1
CONTENT = "the content of the canary"
Effect = Callable[[Any, Path], Any]
"""What a graph does with x, float32[N, 16], and a canary: a file that it may not read, or a folder."""


def python(x: Any, canary: Path) -> Any:
    def touch(x: Any) -> Any:
        (canary.parent / "ran").touch()
        return x

    return v1.py_func(touch, [x], tf.float32)


def read(x: Any, canary: Path) -> Any:
    return x + tf.cast(tf.strings.length(tf.io.read_file(str(canary))), tf.float32)


def write(x: Any, canary: Path) -> Any:
    with tf.control_dependencies([tf.io.write_file(str(canary.parent / "ran"), "here")]):
        return tf.identity(x)


EFFECTS: dict[str, tuple[Effect, str]] = {
    "runs Python": (python, "PyFunc"),
    "reads a file": (read, "ReadFile"),
    "writes a file": (write, "WriteFile"),
}


def saved(folder: Path, effect: Effect, canary: Path) -> Path:
    """A frozen graph, its weights being constants, as TensorFlow 1 saved it."""
    with tf.Graph().as_default(), v1.Session() as session:
        ids = v1.placeholder(tf.int64, [None, None], name="input_ids")
        mask = v1.placeholder(tf.int64, [None, None], name="attention_mask")
        weights = tf.random.stateless_normal([300, 16], seed=[1, 2])
        mean = tf.reduce_mean(tf.gather(weights, ids) * tf.cast(mask, tf.float32)[:, :, None], 1)
        vectors = tf.ensure_shape(effect(mean, canary), [None, 16])
        v1.saved_model.simple_save(
            session, str(folder), {"input_ids": ids, "attention_mask": mask}, {"vectors": vectors}
        )
    return folder


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    file = tmp_path / "outside" / "canary"
    file.parent.mkdir()
    file.write_text(CONTENT)
    return file


def checked(package: Path) -> None:
    """What `model check` does: report every runtime, and then fail for the first that failed."""
    failure = check_package(ModelPackage.open(package)).failure
    if failure is not None:
        raise failure


def refused(act: Callable[[], object], canary: Path, package: Path) -> str:
    """Why; and nothing has run, and nothing of the canary is anywhere."""
    with pytest.raises(ModelError) as caught:
        act()
    said = str(caught.value)
    assert "\n" not in said
    assert CONTENT not in said
    assert [file.name for file in canary.parent.iterdir()] == [canary.name]
    assert not any(CONTENT.encode() in file.read_bytes() for file in package.rglob("*") if file.is_file())
    return said


@pytest.mark.parametrize("case", EFFECTS)
def test_import_refuses_it_by_its_age(case: str, tmp_path: Path, canary: Path) -> None:
    model = saved(tmp_path / "saved", EFFECTS[case][0], canary)
    declared, package = tiny_text_declaration(tmp_path / "source"), tmp_path / "package"
    said = refused(lambda: import_declared(model, declared, package), canary, package)
    assert "it was not written by TensorFlow 2; export it again" in said
    assert not package.exists()


@pytest.mark.parametrize("case", EFFECTS)
def test_check_refuses_it_by_its_age(case: str, tmp_path: Path, canary: Path) -> None:
    package = tmp_path / "package"
    tiny_text_declaration(package)
    saved(package / "model", EFFECTS[case][0], canary)
    said = refused(lambda: checked(package), canary, package)
    assert "it was not written by TensorFlow 2; export it again" in said


@pytest.mark.parametrize("case", EFFECTS)
def test_one_that_pretends_to_be_of_tensorflow_2_is_refused_by_its_operation(
    case: str, tmp_path: Path, canary: Path
) -> None:
    effect, operation = EFFECTS[case]
    package = tmp_path / "package"
    tiny_text_declaration(package)
    file = saved(package / "model", effect, canary) / "saved_model.pb"
    message = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    message.meta_graphs[0].object_graph_def.nodes.add().user_object.identifier = "_generic_user_object"
    file.write_bytes(message.SerializeToString())
    said = refused(lambda: checked(package), canary, package)
    assert f"operation {operation!r} is not allowed" in said
    assert "of the main graph" in said


@pytest.mark.parametrize("name", ["frozen.pb", "model.meta", "checkpoint.ckpt"])
def test_a_bare_graph_is_no_model(name: str, tmp_path: Path, canary: Path) -> None:
    model = saved(tmp_path / "saved", python, canary)
    meta = saved_model_pb2.SavedModel.FromString((model / "saved_model.pb").read_bytes()).meta_graphs[0]
    bare = tmp_path / name
    bare.write_bytes((meta if name == "model.meta" else meta.graph_def).SerializeToString())
    declared, package = tiny_text_declaration(tmp_path / "source"), tmp_path / "package"
    said = refused(lambda: import_declared(bare, declared, package), canary, package)
    assert f"{bare}: is no .keras file" in said
    assert not package.exists()


def test_the_same_graphs_do_their_harm_where_nobody_checks(tmp_path: Path, canary: Path) -> None:
    """Or else the tests above would show nothing."""
    model = saved(tmp_path / "saved", write, canary)
    with tf.Graph().as_default(), v1.Session() as session:
        v1.saved_model.load(session, ["serve"], str(model))
        session.run("EnsureShape:0", {"input_ids:0": [[1]], "attention_mask:0": [[1]]})
    assert (canary.parent / "ran").read_text() == "here"
