"""ONNX files may not reach out of their folder, nor be something else."""

from __future__ import annotations

import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tests.models import save_onnx

from embedmill.errors import ModelError
from embedmill.runtimes import Runtime, load_runtime
from embedmill.runtimes.onnx_external import external_files
from embedmill.spec import OnnxSpec

SQUARE = np.arange(9, dtype=np.float32).reshape(3, 3)


def loaded(file: Path) -> Runtime:
    return load_runtime(OnnxSpec(kind="onnx", file=file.name), file.parent)


def product(file: Path, *, external: str | None = None) -> Path:
    """x @ SQUARE, whose weights may lie in another file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", 3]) for name in "xy")
    node = helper.make_node("MatMul", ["x", "square"], ["y"])
    save_onnx(file, [node], [x], [y], weights={"square": SQUARE}, external=external)
    return file


def point_to(file: Path, location: str) -> None:
    """Make the tensors of a file lie elsewhere."""
    model = onnx.load(file, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = location
    file.write_bytes(model.SerializeToString())


def test_tensors_in_a_file_beside_it_are_listed_and_loaded(tmp_path: Path) -> None:
    file = product(tmp_path / "model.onnx", external="weights.bin")
    assert external_files(file) == (tmp_path / "weights.bin",)
    assert (loaded(file).run({"x": np.eye(3, dtype=np.float32)}) == SQUARE).all()


def test_a_model_in_one_file_has_no_others(tmp_path: Path) -> None:
    assert external_files(product(tmp_path / "model.onnx")) == ()


def test_tensors_of_nested_graphs_and_of_functions_are_found_too(tmp_path: Path) -> None:
    file = product(tmp_path / "inner.onnx", external="weights.bin")
    inner = onnx.load(file, load_external_data=False).graph
    deep = helper.make_graph([helper.make_node("If", [], ["z"], then_branch=inner)], "deep", [], [])
    constant = helper.make_node("Constant", [], ["c"], value=inner.initializer[0])
    function = helper.make_function("d", "F", [], [], [constant], [helper.make_opsetid("", 17)])
    for model in (
        helper.make_model(
            helper.make_graph([helper.make_node("If", [], ["y"], then_branch=deep)], "g", [], [])
        ),
        helper.make_model(helper.make_graph([], "g", [], []), functions=[function]),
    ):
        (tmp_path / "outer.onnx").write_bytes(model.SerializeToString())
        assert external_files(tmp_path / "outer.onnx") == (tmp_path / "weights.bin",)


@pytest.mark.parametrize(
    "location", ["../secret", "sub/../../secret", "/etc/passwd", "", "link", "links/secret"]
)
def test_tensors_outside_the_folder_are_refused(tmp_path: Path, location: str) -> None:
    file = product(tmp_path / "package" / "model.onnx", external="weights.bin")
    (tmp_path / "secret").write_bytes(SQUARE.tobytes())
    (tmp_path / "package" / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "package" / "links").symlink_to(tmp_path)
    point_to(file, location)
    with pytest.raises(ModelError, match="leads out of the folder"):
        loaded(file)


def test_absent_tensors_are_named(tmp_path: Path) -> None:
    file = product(tmp_path / "model.onnx", external="weights.bin")
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ModelError, match=r"'weights.bin' is no file"):
        loaded(file)


class Canary:
    """Unpickling it makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.file), "w"))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("zipped", [False, True])
def test_a_pickle_called_onnx_is_refused_unread(tmp_path: Path, protocol: int, zipped: bool) -> None:
    file = tmp_path / "model.onnx"
    payload = pickle.dumps(Canary(tmp_path / "canary"), protocol=protocol)
    if zipped:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("archive/version", "3")
            archive.writestr("archive/data.pkl", payload)
    else:
        file.write_bytes(payload)
    with pytest.raises(ModelError, match="is a pickle"):
        loaded(file)
    assert not (tmp_path / "canary").exists()


def test_an_output_that_is_no_table_is_a_model_error_that_says_what_to_do(tmp_path: Path) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 2, 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 2, 3])
    save_onnx(tmp_path / "m.onnx", [helper.make_node("Relu", ["x"], ["y"])], [x], [y], weights={})
    runtime = loaded(tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=r"output 'y' has the shape \[4, 2, 3\].*pool in the graph"):
        runtime.run({"x": np.zeros((4, 2, 3), np.float32)})


@pytest.mark.parametrize(("kind", "name"), [(TensorProto.BOOL, "bool"), (TensorProto.STRING, "string")])
def test_an_output_that_has_no_numbers_is_told_by_its_type(tmp_path: Path, kind: int, name: str) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 3])
    y = helper.make_tensor_value_info("y", kind, ["rows", 3])
    save_onnx(tmp_path / "m.onnx", [helper.make_node("Cast", ["x"], ["y"], to=kind)], [x], [y], weights={})
    with pytest.raises(ModelError, match=f"output 'y' is {name}, and vectors are numbers that NumPy knows"):
        loaded(tmp_path / "m.onnx").run({"x": SQUARE})


def test_half_precision_outputs_become_float32(tmp_path: Path) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT16, ["rows", 3])
    node = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT16)
    save_onnx(tmp_path / "m.onnx", [node], [x], [y], weights={})
    vectors = loaded(tmp_path / "m.onnx").run({"x": SQUARE})
    assert vectors.dtype == np.float32
    assert (vectors == SQUARE).all()


def test_errors_are_told_once_and_not_on_stderr(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    runtime = loaded(product(tmp_path / "model.onnx"))
    with pytest.raises(ModelError):
        runtime.run({"x": np.zeros((2, 4), np.float32)})
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("left", [0, 35])
def test_tensors_that_were_copied_in_part_are_told_without_where_in_its_source_that_was_noticed(
    tmp_path: Path, left: int
) -> None:
    file = product(tmp_path / "model.onnx", external="weights.bin")
    weights = (tmp_path / "weights.bin").read_bytes()
    (tmp_path / "weights.bin").write_bytes(weights[:left])
    with pytest.raises(ModelError, match=r"cannot load it: .*'?square.* file_length: \d+ ") as caught:
        loaded(file)
    assert not re.search(r"\.(cc|h):|GetExtData|ONNXRuntimeError", caught.value.message)
    assert "copied whole" in caught.value.hint


def test_an_address_in_an_error_stays_whole(tmp_path: Path) -> None:
    address = "https://x.y/z.cc:3 bar"
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", "wide"]) for name in "xy")
    node = helper.make_node("MatMul", ["x", "square"], ["y"], name=address)
    save_onnx(tmp_path / "m.onnx", [node], [x], [y], weights={"square": SQUARE})
    with pytest.raises(ModelError, match=re.escape(address)):
        loaded(tmp_path / "m.onnx").run({"x": np.zeros((2, 4), np.float32)})


def test_an_embedded_tensor_that_is_too_short_is_told_likewise(tmp_path: Path) -> None:
    file = product(tmp_path / "model.onnx")
    model = onnx.load(file)
    model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[:-4]
    onnx.save(model, file)
    with pytest.raises(ModelError, match=r"cannot load it: .*square") as caught:
        loaded(file)
    assert not re.search(r"\.(cc|h):|ONNXRuntimeError", str(caught.value))


def test_an_output_of_a_type_that_numpy_lacks_is_refused_with_what_to_do(tmp_path: Path) -> None:
    file = product(tmp_path / "model.onnx")
    model = onnx.load(file)
    model.graph.node.append(helper.make_node("Cast", ["y"], ["short"], to=TensorProto.BFLOAT16))
    model.graph.output.append(helper.make_tensor_value_info("short", TensorProto.BFLOAT16, ["rows", 3]))
    onnx.save(model, file)
    spec = OnnxSpec(kind="onnx", file=file.name, output="short")
    with pytest.raises(ModelError, match="output 'short' is bfloat16, a type that NumPy lacks") as caught:
        load_runtime(spec, file.parent)
    assert "cast it to float32" in caught.value.hint
    assert loaded(file).output.name == "y", "another output of it is as good as ever"
