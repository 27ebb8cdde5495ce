"""Sessions by TensorRT, on a library that only tells its version: each in a process that begins anew."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
from tests.models import tiny_text_package

REPOSITORY = Path(__file__).parents[2]
NVINFER = "int getInferLibVersion(void) { return 101303; }\n"
RANGE = {"min": [1, 1], "opt": [8, 32], "max": [64, 64]}
SHAPES = {"input_ids": RANGE, "attention_mask": RANGE}
SCRIPT = """
import json, os, sys
from pathlib import Path
from types import SimpleNamespace
from embedmill.errors import EmbedmillError
from embedmill.runtimes import Place
from embedmill.runtimes.onnx import gpu_session
from embedmill.spec import OnnxSpec
from tests.runtimes.fake_cuda import Driver, GpuWheel

folder, keys, precision = Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3]
spec = OnnxSpec(kind="onnx", file="model.onnx", tensorrt=True, **keys)
names = ("input_ids", "attention_mask")
inputs = [SimpleNamespace(name=name, type="tensor(int64)", shape=["rows", None]) for name in names]
wheel = GpuWheel(sessions=[], inputs=inputs)
wheel.__file__ = str(folder / "__init__.py")
place, files = Place("cuda", precision=precision, cache=folder / "cache"), [folder / "package" / "model.onnx"]
try:
    _, version = gpu_session(wheel, spec, place, files, driver=Driver())
except EmbedmillError as error:
    version = str(error)
print(json.dumps({
    "version": version,
    "tf32": os.environ.get("NVIDIA_TF32_OVERRIDE"),
    "options": [options["providers"][0] for options in wheel.sessions],
}))
"""
pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model, and libraries as a GPU build of ONNX Runtime has and needs them."""
    tiny_text_package(tmp_path / "package")
    (tmp_path / "capi").mkdir()
    (tmp_path / "capi" / "libonnxruntime_providers_tensorrt.so").write_bytes(b"\0libnvinfer.so.10\0")
    source = tmp_path / "nvinfer.c"
    source.write_text(NVINFER)
    library = tmp_path / "libnvinfer.so.10"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    return tmp_path


def created(folder: Path, *, precision: str = "float32", **keys: Any) -> dict[str, Any]:
    """What a process says of a session that it created."""
    environment = {name: value for name, value in os.environ.items() if name != "NVIDIA_TF32_OVERRIDE"}
    paths = {"LD_LIBRARY_PATH": str(folder), "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder), json.dumps(keys), precision],
        env=environment | paths,
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def test_the_stack_is_another_one_than_cuda_s_and_tf32_is_off(folder: Path) -> None:
    said = created(folder, shapes=SHAPES)
    expected = f"{onnxruntime.__version__}, TensorRT 10.13.3, CUDA 13.0, NVIDIA H100 80GB HBM3, shapes "
    assert said["version"].startswith(expected)
    assert said["tf32"] == "0"


@pytest.mark.parametrize("precision", ["tf32", "float16", "bfloat16"])
def test_what_may_be_rounded_leaves_the_environment_alone(folder: Path, precision: str) -> None:
    assert created(folder, precision=precision, shapes=SHAPES)["tf32"] is None


def test_engines_are_made_in_a_folder_apart_and_then_found_in_the_cache(folder: Path) -> None:
    (name, made), (same, found) = (created(folder, shapes=SHAPES)["options"][0] for _ in range(2))
    assert name == same == "TensorrtExecutionProvider"
    place = Path(found["trt_engine_cache_path"])
    assert place.parent == folder / "cache" / "engines" / "nvidia-h100-80gb-hbm3-sm90"
    assert Path(made["trt_engine_cache_path"]).name.startswith(f"{place.name}.")
    assert {path.name for path in place.parent.iterdir()} == {place.name, f"{place.name}.lock"}


def test_a_model_whose_shapes_are_free_and_undeclared_is_refused_and_nothing_kept(folder: Path) -> None:
    said = created(folder)["version"]
    assert "TensorRT needs the shapes of input_ids, attention_mask" in said
    kept = [path for path in (folder / "cache").rglob("*") if path.suffix != ".lock"]
    assert [path.name for path in kept] == ["engines", "nvidia-h100-80gb-hbm3-sm90"]
