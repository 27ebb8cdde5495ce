"""Runtime `openvino`: the suite from each format, precision, and files that lie."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import openvino
import pytest
import yaml
from onnx import TensorProto, helper
from openvino import opset13
from tests.contracts.runtime_suite import FEEDS, RuntimeSuite
from tests.models import save_onnx, tiny_image_package, tiny_text_package

from embedmill.errors import DeviceUnavailable, ModelError
from embedmill.model.encoder import Encoder
from embedmill.model.importing import import_declared
from embedmill.model.package import ModelPackage
from embedmill.runtimes import Runtime, load_runtime
from embedmill.spec import OpenVinoSpec, Precision

SAVED_MODEL = Path(__file__).parents[1] / "data" / "saved_model"
MISFITS = ("absent", "more", "dtype", "rank")


class TestOpenVinoFromOnnx(RuntimeSuite):
    spec = OpenVinoSpec(kind="openvino", file="model.onnx")
    main = "model.onnx"
    misfits = MISFITS

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        return tiny_text_package(tmp_path / "package", dimension=6)


class TestOpenVinoFromIr(RuntimeSuite):
    spec = OpenVinoSpec(kind="openvino", file="model.xml")
    main = "model.xml"
    misfits = MISFITS

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        return ir_folder(tmp_path)


class TestOpenVinoFromSavedModel(RuntimeSuite):
    spec = OpenVinoSpec(kind="openvino", folder="saved_model", output="vectors")
    main = "saved_model/saved_model.pb"
    misfits = MISFITS

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        shutil.copytree(SAVED_MODEL, tmp_path / "saved_model")
        return tmp_path


def ir_folder(folder: Path) -> Path:
    """The tiny text model as OpenVINO saves it, with its weights as they are."""
    package = tiny_text_package(folder / "package", dimension=6)
    openvino.save_model(
        openvino.Core().read_model(package / "model.onnx"), folder / "model.xml", compress_to_fp16=False
    )
    return folder


def loaded(root: Path, *, precision: Precision = "float32", file: str = "model.onnx") -> Runtime:
    return load_runtime(OpenVinoSpec(kind="openvino", file=file), root, precision=precision)


def product(folder: Path) -> npt.NDArray[np.float32]:
    """An ONNX file of x[N, 256] @ weights[256, 32]; the weights."""
    weights = np.random.default_rng(0).normal(size=(256, 32)).astype(np.float32)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 256])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 32])
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    save_onnx(folder / "model.onnx", [node], [x], [y], weights={"w": weights})
    return weights


def test_float32_is_not_silently_rounded_to_bfloat16(tmp_path: Path) -> None:
    weights = product(tmp_path)
    rows = np.random.default_rng(1).normal(size=(64, 256)).astype(np.float32)
    exact = rows.astype(np.float64) @ weights
    np.testing.assert_allclose(loaded(tmp_path).run({"x": rows}), exact, atol=1e-4)
    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        rounded = loaded(tmp_path, precision="bfloat16").run({"x": rows})
        assert 1e-3 < np.abs(rounded - exact).max() < 1.0
    else:
        with pytest.raises(DeviceUnavailable, match="does not compute in bfloat16"):
            loaded(tmp_path, precision="bfloat16")


def test_tf32_and_gpus_are_for_others(tmp_path: Path) -> None:
    product(tmp_path)
    with pytest.raises(DeviceUnavailable, match="openvino: cannot compute in tf32"):
        loaded(tmp_path, precision="tf32")
    with pytest.raises(DeviceUnavailable, match="openvino: no device 'cuda'"):
        load_runtime(OpenVinoSpec(kind="openvino", file="model.onnx"), tmp_path, device="cuda")


def test_a_saved_model_is_known_by_the_names_of_its_signature(tmp_path: Path) -> None:
    shutil.copytree(SAVED_MODEL, tmp_path / "saved_model")
    runtime = load_runtime(OpenVinoSpec(kind="openvino", folder="saved_model", output="halves"), tmp_path)
    assert set(runtime.outputs) == {"vectors", "halves"}
    vectors = load_runtime(
        OpenVinoSpec(kind="openvino", folder="saved_model", output="vectors"), tmp_path
    ).run(FEEDS)
    np.testing.assert_allclose(runtime.run(FEEDS) * 2, vectors, rtol=1e-6)


def test_tensors_that_only_pass_through_keep_the_names_of_inputs_and_outputs(tmp_path: Path) -> None:
    """OpenVINO drops `Identity` when it compiles, and one tensor then has the names of both its ends."""
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", 4]) for name in ("pixels", "b", "c")
    ]
    nodes = [
        helper.make_node("Identity", ["pixels"], ["x"]),
        helper.make_node("Abs", ["x"], ["y"]),
        helper.make_node("Identity", ["y"], ["b"]),
        helper.make_node("Neg", ["y"], ["c"]),
    ]
    save_onnx(tmp_path / "model.onnx", nodes, ends[:1], ends[1:], weights={})
    runtime = load_runtime(OpenVinoSpec(kind="openvino", file="model.onnx", output="b"), tmp_path)
    assert (list(runtime.inputs), list(runtime.outputs)) == (["pixels"], ["b", "c"])
    np.testing.assert_array_equal(
        runtime.run({"pixels": np.full((2, 4), -3.0, np.float32)}), np.full((2, 4), 3.0)
    )


ROWS = np.full((2, 4), -3.0, np.float32)


def passing_through(folder: Path) -> Path:
    """An ONNX file of x, vectors, copies of both under other names, and `c`."""
    pixels, *outs = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", 4])
        for name in ("pixels", "vectors", "dup vectors", "c")
    )
    pairs = [("Identity", "pixels", "x"), ("Abs", "x", "y"), ("Identity", "y", "vectors")]
    pairs += [("Identity", "y", "dup vectors"), ("Neg", "y", "c")]
    nodes = [helper.make_node(kind, [taken], [made]) for kind, taken, made in pairs]
    save_onnx(folder / "model.onnx", nodes, [pixels], outs, weights={})
    return folder / "model.onnx"


@pytest.mark.parametrize("file", ["model.onnx", "model.xml"])
@pytest.mark.parametrize("name", ["vectors", "dup vectors", "c"])
def test_a_tensor_is_found_by_the_names_of_both_ends(tmp_path: Path, file: str, name: str) -> None:
    onnx_file = passing_through(tmp_path)
    openvino.save_model(openvino.convert_model(onnx_file), tmp_path / "model.xml")
    runtime = load_runtime(OpenVinoSpec(kind="openvino", file=file, output=name), tmp_path)
    assert len(runtime.inputs) == 1
    assert runtime.inputs["x"] == runtime.inputs["pixels"]
    np.testing.assert_array_equal(
        runtime.run({runtime.inputs["pixels"].name: ROWS}), -np.abs(ROWS) if name == "c" else np.abs(ROWS)
    )


def test_an_output_is_found_by_the_name_of_a_tensor_within_the_graph(tmp_path: Path) -> None:
    """By such a name packages may declare it, since the compiled graph calls it so."""
    passing_through(tmp_path)
    runtime = load_runtime(OpenVinoSpec(kind="openvino", file="model.onnx", output="y"), tmp_path)
    np.testing.assert_array_equal(runtime.run({"pixels": ROWS}), np.abs(ROWS))


@pytest.mark.parametrize(("name", "sign"), [("vectors", 1), ("dup vectors", 1), ("c", -1)])
def test_two_outputs_of_one_tensor_are_one_and_shift_none(tmp_path: Path, name: str, sign: int) -> None:
    x = opset13.parameter([-1, 4], np.float32, name="x")
    x.output(0).tensor.set_names({"x"})
    y = opset13.absolute(x)
    y.output(0).tensor.set_names({"vectors", "dup vectors"})
    c = opset13.negative(y)
    c.output(0).tensor.set_names({"c"})
    ends = [opset13.result(each.output(0)) for each in (y, y, c)]
    openvino.save_model(openvino.Model(ends, [x], "model"), tmp_path / "model.xml")
    runtime = load_runtime(OpenVinoSpec(kind="openvino", file="model.xml", output=name), tmp_path)
    assert list(runtime.outputs) == ["vectors", "c"]
    np.testing.assert_array_equal(runtime.run({"x": ROWS}), sign * np.abs(ROWS))


@pytest.mark.parametrize("name", ["pixels", "x"])
def test_a_package_may_declare_an_input_by_either_name(tmp_path: Path, name: str) -> None:
    package = tiny_image_package(tmp_path / "tiny")
    model = onnx.load(package / "model.onnx")
    for node in model.graph.node:
        node.input[:] = ["x" if each == "pixels" else each for each in node.input]
    model.graph.node.insert(0, helper.make_node("Identity", ["pixels"], ["x"]))
    onnx.save(model, package / "model.onnx")
    declared = yaml.safe_load((package / "model.yaml").read_text())
    declared["runtimes"][0]["kind"] = "openvino"
    declared["encoders"] = {each: {name: spec["pixels"]} for each, spec in declared["encoders"].items()}
    (package / "model.yaml").write_text(yaml.safe_dump(declared))
    with Encoder.load(ModelPackage.open(package)) as encoder:
        assert encoder.runtime.name == "openvino"


def test_an_ir_without_its_weights_beside_it_is_refused(tmp_path: Path) -> None:
    (ir_folder(tmp_path) / "model.bin").unlink()
    with pytest.raises(ModelError, match=r"model.xml: 'model.bin' is no file"):
        loaded(tmp_path, file="model.xml")


def test_an_ir_is_imported_under_the_name_that_is_declared(tmp_path: Path) -> None:
    source = ir_folder(tmp_path)
    declared = yaml.safe_load((source / "package" / "model.yaml").read_text())
    declared["runtimes"] = [{"kind": "openvino", "file": "exported/text.xml"}]
    (source / "package" / "model.yaml").write_text(yaml.safe_dump(declared))
    package = import_declared(source / "model.xml", source / "package" / "model.yaml", tmp_path / "made")
    assert [name for name in package.files() if name.startswith("exported/")] == [
        "exported/text.bin",
        "exported/text.xml",
    ]


def test_the_weights_of_an_ir_may_not_be_a_link_out_of_the_folder(tmp_path: Path) -> None:
    root = tmp_path / "inside"
    root.mkdir()
    ir_folder(root)
    (root / "model.bin").rename(tmp_path / "elsewhere.bin")
    (root / "model.bin").symlink_to(tmp_path / "elsewhere.bin")
    with pytest.raises(ModelError, match="leads out of the folder"):
        loaded(root, file="model.xml")


@pytest.mark.parametrize(
    ("pattern", "lie"),
    [
        (rb'offset="\d+"', b'offset="999999999"'),
        (rb'size="6\d\d\d"', b'size="99999999999"'),
        (rb'type="Gather" version="opset\d+"', b'type="Gather" version="extension"'),
        (rb'type="Tanh"', b'type="RunMe"'),
        (rb'element_type="f32" shape="258', b'element_type="f32" shape="2580000'),
    ],
)
def test_an_ir_that_lies_is_a_model_error_of_one_line(tmp_path: Path, pattern: bytes, lie: bytes) -> None:
    file = ir_folder(tmp_path) / "model.xml"
    changed, count = re.subn(pattern, lie, file.read_bytes())
    assert count
    file.write_bytes(changed)
    with pytest.raises(ModelError) as caught:
        loaded(tmp_path, file="model.xml")
    assert "\n" not in str(caught.value)


def test_entities_of_an_ir_are_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("canary")
    root = tmp_path / "model"
    root.mkdir()
    file = ir_folder(root) / "model.xml"
    declared = f'<?xml version="1.0"?><!DOCTYPE net [<!ENTITY x SYSTEM "file://{secret}">]>'.encode()
    text = file.read_bytes().replace(b'<?xml version="1.0"?>', declared)
    file.write_bytes(text.replace(b'names="vectors"', b'names="&x;"'))
    assert "canary" not in str(loaded(root, file="model.xml").outputs)


def test_tensors_of_an_onnx_file_may_not_lie_outside_of_its_folder(tmp_path: Path) -> None:
    product(tmp_path)
    model = onnx.load(tmp_path / "model.onnx")
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="leads out of the folder"):
        loaded(tmp_path)


def test_an_operation_that_openvino_does_not_know_leaves_the_model_to_the_next_runtime(
    tmp_path: Path,
) -> None:
    product(tmp_path)
    model = onnx.load(tmp_path / "model.onnx")
    model.graph.node[0].op_type, model.graph.node[0].domain = "Conjure", "spells"
    model.opset_import.add(domain="spells", version=1)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(DeviceUnavailable, match=r"OpenVINO cannot compute it.*Conjure"):
        loaded(tmp_path)


def test_a_model_that_takes_texts_is_left_to_the_next_runtime(tmp_path: Path) -> None:
    texts, out = (helper.make_tensor_value_info(n, TensorProto.STRING, ["rows", 1]) for n in ("texts", "out"))
    save_onnx(
        tmp_path / "model.onnx",
        [helper.make_node("Identity", ["texts"], ["out"])],
        [texts],
        [out],
        weights={},
    )
    with pytest.raises(DeviceUnavailable, match="takes no texts, and texts is one"):
        loaded(tmp_path)
