"""Sessions on GPUs that are not there: what is asked of driver, cache and library, and what is refused."""

from __future__ import annotations

import multiprocessing
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
from tests.models import tiny_text_package
from tests.runtimes.fake_cuda import Driver, GpuWheel

from embedmill.errors import DeviceUnavailable, ModelError
from embedmill.runtimes import Place, load_runtime
from embedmill.runtimes.cuda_driver import Gpu, driver_version, find_gpu, gpu_memory_bytes
from embedmill.runtimes.onnx import gpu_session
from embedmill.runtimes.onnx_engines import engine_folder, kept
from embedmill.runtimes.onnx_gpu import (
    TF32_OVERRIDE,
    keep_tf32_off,
    load_tensorrt,
    loaded_version,
    prepared,
)
from embedmill.spec import OnnxSpec

SPEC = OnnxSpec(kind="onnx", file="model.onnx")
TENSORRT = OnnxSpec(kind="onnx", file="model.onnx", tensorrt=True)
GPU = Gpu("NVIDIA H100 80GB HBM3", "9.0", "13.1", "580.65.06")


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [tiny_text_package(tmp_path / "package") / "model.onnx"]


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="a GPU build is installed"
)
@pytest.mark.parametrize("spec", [SPEC, TENSORRT])
def test_the_cpu_build_says_which_wheel_knows_gpus(files: list[Path], spec: OnnxSpec) -> None:
    with pytest.raises(DeviceUnavailable, match=r"has no \w+ExecutionProvider .*onnxruntime-gpu.*CUDA 13"):
        load_runtime(spec, files[0].parent, device="cuda")


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_session_that_fell_back_to_the_cpu_without_an_error_is_refused(files: list[Path]) -> None:
    asked = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    silent = onnxruntime.InferenceSession(str(files[0]), providers=asked)
    assert silent.get_providers() == ["CPUExecutionProvider"]
    with pytest.raises(DeviceUnavailable, match=r"would compute by CPUExecutionProvider instead"):
        gpu_session(GpuWheel(), SPEC, Place("cuda"), files, driver=Driver())


def test_a_session_on_a_gpu_never_falls_back_sums_in_order_and_says_its_stack(
    files: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    wheel = GpuWheel(sessions=[])
    _, version = gpu_session(wheel, SPEC, Place("cuda", 1), files, driver=Driver(["NVIDIA L4", "NVIDIA A10"]))
    assert wheel.sessions is not None
    (options,) = wheel.sessions
    assert options["enable_fallback"] == 0
    assert options["sess_options"].use_deterministic_compute
    assert options["providers"][0][1]["device_id"] == "1"
    assert version == f"{onnxruntime.__version__}, CUDA 13.0, NVIDIA A10"
    assert wheel.preloaded == 1
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("declared", "here", "limit"), [(None, 8, 8), (8, None, 8), (8, 16, 8), (16, 8, 8), (None, None, None)]
)
def test_a_session_takes_no_more_memory_than_the_model_says_and_may_be_taken_here(
    files: list[Path], declared: int | None, here: int | None, limit: int | None
) -> None:
    wheel, spec = GpuWheel(sessions=[]), SPEC.model_copy(update={"memory_limit_mib": declared})
    gpu_session(wheel, spec, Place("cuda", gpu_memory_mib=here), files, driver=Driver())
    assert wheel.sessions is not None
    told = wheel.sessions[0]["providers"][0][1].get("gpu_mem_limit")
    assert told == (None if limit is None else str(limit << 20))


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (RuntimeError("CUDA failure 2: out of memory ; GPU=0"), DeviceUnavailable),
        (RuntimeError("Load model from m.onnx failed:Protobuf parsing failed."), ModelError),
    ],
)
def test_what_the_gpu_refuses_is_left_to_the_next_runtime_and_a_damaged_file_is_not(
    files: list[Path], failure: Exception, error: type[Exception]
) -> None:
    with pytest.raises(ModelError) as caught:
        gpu_session(GpuWheel(failure=failure), SPEC, Place("cuda"), files, driver=Driver())
    assert type(caught.value) is error


def test_a_tensorrt_that_is_not_there_is_named_with_its_version(tmp_path: Path) -> None:
    with pytest.raises(DeviceUnavailable, match=r"TensorRT cannot be loaded: libnvinfer.so.3:"):
        load_tensorrt(provider(tmp_path, b"...libnvinfer.so.3..."))


def provider(folder: Path, content: bytes) -> Path:
    file = folder / "libonnxruntime_providers_tensorrt.so"
    file.write_bytes(content)
    return file


def test_a_gpu_is_described_by_its_driver(tmp_path: Path) -> None:
    told = tmp_path / "version"
    told.write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (x@y)\nGCC 13\n"
    )
    assert find_gpu(Driver(), 0, version_file=told) == GPU
    assert driver_version(tmp_path / "absent") == ""


def test_the_closed_driver_writes_its_version_otherwise(tmp_path: Path) -> None:
    (tmp_path / "version").write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.54.03  Tue Jun\n")
    assert driver_version(tmp_path / "version") == "535.54.03"


def test_the_memory_of_a_gpu_is_told_by_its_driver() -> None:
    assert gpu_memory_bytes(Driver(["a", "b"]), 1) == 80 << 30
    with pytest.raises(DeviceUnavailable, match="no device cuda:2"):
        gpu_memory_bytes(Driver(["a", "b"]), 2)


def test_a_gpu_beyond_those_that_are_visible_is_refused() -> None:
    with pytest.raises(DeviceUnavailable, match=r"no device cuda:2 \(the driver shows 2"):
        find_gpu(Driver(["a", "b"]), 2)


def test_a_driver_that_does_not_work_is_refused_with_its_number() -> None:
    with pytest.raises(DeviceUnavailable, match="answers cuInit with error 803"):
        find_gpu(Driver(broken=803), 0)


@pytest.mark.parametrize("before", [{}, {TF32_OVERRIDE: "0"}])
def test_tf32_is_off_in_tensorrt_by_the_environment(before: dict[str, str]) -> None:
    environment = dict(before)
    keep_tf32_off(environment, "7f0 r-xp /usr/lib/libcublas.so.13")
    assert environment == {TF32_OVERRIDE: "0"}


@pytest.mark.parametrize(
    ("before", "loaded", "words"),
    [
        ({TF32_OVERRIDE: "1"}, "", "NVIDIA_TF32_OVERRIDE is '1'"),
        ({}, "7f0 r-xp /usr/lib/libnvinfer.so.10.13.3", "in this process, since its first model"),
    ],
)
def test_tf32_that_cannot_be_turned_off_is_refused(before: dict[str, str], loaded: str, words: str) -> None:
    environment = dict(before)
    with pytest.raises(DeviceUnavailable, match=words):
        keep_tf32_off(environment, loaded)
    assert environment == before


def test_versions_are_those_of_libraries_that_this_process_has_loaded(tmp_path: Path) -> None:
    pid = os.getpid()
    assert loaded_version("libc", "getpid") == f"{pid // 10_000}.{pid // 100 % 100}.{pid % 100}"
    assert loaded_version("libabsent", "getpid") == ""


def folder_of(files: list[Path], **changes: Any) -> Path:
    keys: dict[str, Any] = {
        "gpu": GPU,
        "versions": {"ONNX Runtime": "1.32.0", "TensorRT": "10.13.3"},
        "files": files,
        "spec": TENSORRT,
        "precision": "float32",
    }
    return engine_folder(Path("/cache"), **(keys | changes))


def test_engines_lie_in_the_cache_by_type_of_gpu(files: list[Path]) -> None:
    folder = folder_of(files)
    assert folder.parent == Path("/cache/engines/nvidia-h100-80gb-hbm3-sm90")
    assert folder == folder_of(files)


@pytest.mark.parametrize(
    "changes",
    [
        {"gpu": replace(GPU, name="NVIDIA L4")},
        {"gpu": replace(GPU, capability="8.9")},
        {"gpu": replace(GPU, driver="590.44.01")},
        {"versions": {"ONNX Runtime": "1.33.0", "TensorRT": "10.13.3"}},
        {"versions": {"ONNX Runtime": "1.32.0", "TensorRT": "10.14.0"}},
        {"precision": "float16"},
        {"spec": TENSORRT.model_copy(update={"memory_limit_mib": 8})},
    ],
)
def test_whatever_an_engine_holds_for_is_in_its_folder_s_name(
    files: list[Path], changes: dict[str, Any]
) -> None:
    assert folder_of(files, **changes) != folder_of(files)


def test_another_model_has_other_engines(files: list[Path]) -> None:
    before = folder_of(files)
    files[0].write_bytes(files[0].read_bytes() + b" ")
    assert folder_of(files) != before


def test_engines_that_were_made_are_found_again(tmp_path: Path) -> None:
    with kept(tmp_path / "engines" / "x") as made:
        (made / "graph.engine").write_text("1")
    with kept(tmp_path / "engines" / "x") as found:
        assert found == tmp_path / "engines" / "x"
        assert (found / "graph.engine").read_text() == "1"


def test_engines_of_a_session_that_failed_are_not_kept(tmp_path: Path) -> None:
    def half_built() -> None:
        with kept(tmp_path / "x") as made:
            (made / "graph.engine").write_text("half")
            raise DeviceUnavailable("no")

    with pytest.raises(DeviceUnavailable):
        half_built()
    assert [path.name for path in tmp_path.iterdir()] == ["x.lock"]


def make(folder: Path, name: str) -> None:
    with kept(folder) as engines:
        if not list(engines.iterdir()):
            (engines / name).write_text("built")


def test_of_processes_that_come_at_once_one_builds(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=make, args=(tmp_path / "x", str(n))) for n in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len(list((tmp_path / "x").iterdir())) == 1


def test_a_cache_that_cannot_be_written_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ModelError, match="point EMBEDMILL_CACHE to a writable folder"),
        kept(tmp_path / "file" / "x"),
    ):
        pass


def test_nothing_is_asked_of_a_machine_whose_library_knows_no_gpu(files: list[Path]) -> None:
    wheel, driver = GpuWheel(providers=["CPUExecutionProvider"]), Driver(broken=1)
    with (
        pytest.raises(DeviceUnavailable, match="has no CUDAExecutionProvider"),
        prepared(wheel, SPEC, Place("cuda"), files, driver=driver),
    ):
        pass
    assert wheel.preloaded == 0
