"""What TensorFlow is told about devices, memory, threads and precision, shown without it and without GPUs."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from embedmill.errors import DeviceUnavailable, MissingExtra, ModelError
from embedmill.runtimes import Place, load_runtime
from embedmill.runtimes.tensorflow_process import claim, cpu_has_bfloat16, set_precision
from embedmill.spec import TensorFlowSpec


class Gpu(NamedTuple):
    name: str


class Limit(NamedTuple):
    memory_limit: int


@dataclass
class Library:
    """`tensorflow.config` as far as it is used: settings can change until something has `begun`."""

    gpus: list[Gpu]
    begun: bool = False
    visible: list[Gpu] | None = None
    growing: set[Gpu] = field(default_factory=set)
    limits: dict[Gpu, int] = field(default_factory=dict)
    intra: int = 0
    inter: int = 0
    deterministic: bool = False
    tf32: bool = True
    options: dict[str, bool] = field(default_factory=dict)
    changes: int = 0

    LogicalDeviceConfiguration = Limit

    @property
    def config(self) -> Library:
        return self

    experimental = threading = optimizer = config

    def _change(self) -> None:
        if self.begun:
            raise RuntimeError("cannot be modified after being initialized")

    def list_physical_devices(self, kind: str) -> list[Gpu]:
        return self.gpus

    def set_visible_devices(self, devices: list[Gpu], kind: str) -> None:
        self._change()
        self.visible = list(devices)

    def get_visible_devices(self, kind: str) -> list[Gpu]:
        return self.gpus if self.visible is None else self.visible

    def set_memory_growth(self, gpu: Gpu, grows: bool) -> None:
        self._change()
        if gpu in self.limits:
            raise ValueError("Cannot set memory growth on device when virtual devices configured")
        self.growing.add(gpu)

    def set_logical_device_configuration(self, gpu: Gpu, parts: list[Limit]) -> None:
        self._change()
        (part,) = parts
        self.limits[gpu] = part.memory_limit

    def set_intra_op_parallelism_threads(self, count: int) -> None:
        self._change()
        self.intra = count

    def set_inter_op_parallelism_threads(self, count: int) -> None:
        self._change()
        self.inter = count

    def get_intra_op_parallelism_threads(self) -> int:
        return self.intra

    def enable_op_determinism(self) -> None:
        self.deterministic = True

    def tensor_float_32_execution_enabled(self) -> bool:
        return self.tf32

    def enable_tensor_float_32_execution(self, enabled: bool) -> None:
        self.tf32 = enabled
        self.changes += 1

    def get_experimental_options(self) -> dict[str, bool]:
        return self.options

    def set_experimental_options(self, options: dict[str, bool]) -> None:
        self.options = self.options | options
        self.changes += 1


TWO = [Gpu("gpu-a"), Gpu("gpu-b")]


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    monkeypatch.delenv("TF_FORCE_GPU_ALLOW_GROWTH", raising=False)
    return Library(TWO)


def test_a_model_on_the_cpu_touches_no_gpu(library: Library) -> None:
    assert claim(library, Place("cpu", threads=3), memory_limit_mib=None) == "/CPU:0"
    assert library.visible == []
    assert (library.intra, library.inter, library.deterministic) == (3, 1, True)
    assert not library.growing


def test_a_gpu_is_the_only_one_that_is_seen_and_its_memory_grows(library: Library) -> None:
    assert claim(library, Place("cuda", 1), memory_limit_mib=None) == "/GPU:0"
    assert library.visible == [TWO[1]]
    assert library.growing == {TWO[1]}


def test_a_limit_of_memory_is_kept_and_not_taken_at_once(library: Library) -> None:
    claim(library, Place("cuda"), memory_limit_mib=2048)
    assert library.limits == {TWO[0]: 2048}
    assert os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"


@pytest.mark.parametrize(("declared", "here"), [(2048, None), (None, 2048), (4096, 2048), (2048, 4096)])
def test_the_lower_limit_is_kept(library: Library, declared: int | None, here: int | None) -> None:
    place = Place("cuda", gpu_memory_mib=here)
    claim(library, place, memory_limit_mib=place.memory_limit_mib(declared))
    assert library.limits == {TWO[0]: 2048}


def test_a_gpu_that_there_is_not_is_unavailable(library: Library) -> None:
    with pytest.raises(DeviceUnavailable, match="there is no GPU 2: TensorFlow sees 2"):
        claim(library, Place("cuda", 2), memory_limit_mib=None)


@pytest.mark.parametrize(("first", "then"), [("cpu", "cuda"), ("cuda", "cpu"), ("cuda:0", "cuda:1")])
def test_a_process_stays_on_the_device_of_its_first_model(first: str, then: str, library: Library) -> None:
    claim(library, Place.of(first), memory_limit_mib=None)
    library.begun = True
    claim(library, Place.of(first), memory_limit_mib=None)
    with pytest.raises(DeviceUnavailable, match=r"since its first model.*in other processes"):
        claim(library, Place.of(then), memory_limit_mib=None)


def test_a_limit_that_was_set_before_a_model_failed_to_load_stays(library: Library) -> None:
    claim(library, Place("cuda"), memory_limit_mib=100)
    assert claim(library, Place("cuda"), memory_limit_mib=None) == "/GPU:0"
    assert library.limits == {TWO[0]: 100}


@pytest.mark.parametrize(
    ("kind", "precision", "tf32", "on"),
    [
        ("cpu", "float32", False, None),
        ("cuda", "float32", False, None),
        ("cuda", "tf32", True, None),
        ("cuda", "float16", False, "auto_mixed_precision"),
        ("cpu", "bfloat16", False, "auto_mixed_precision_onednn_bfloat16"),
    ],
)
def test_precision_is_switched_on_for_one_call_and_off_for_the_next(
    kind: str, precision: Any, tf32: bool, on: str | None, library: Library
) -> None:
    set_precision(library, Place(kind, precision=precision))
    assert library.tf32 == tf32
    assert [switch for switch, value in library.options.items() if value] == ([on] if on else [])
    before = library.changes
    set_precision(library, Place(kind, precision=precision))
    assert library.changes == before
    set_precision(library, Place("cpu"))
    assert not library.tf32
    assert not any(library.options.values())


def test_bfloat16_needs_a_processor_that_multiplies_it(tmp_path: Path) -> None:
    for flags, has in (("fpu avx2 avx512_bf16", True), ("amx_bf16", True), ("avx512f", False)):
        (tmp_path / "cpuinfo").write_text(f"flags : {flags}\n")
        assert cpu_has_bfloat16(tmp_path / "cpuinfo") == has
    assert not cpu_has_bfloat16(tmp_path / "nowhere")


def test_the_model_is_checked_before_tensorflow_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is no SavedModel"):
        load_runtime(TensorFlowSpec(kind="tensorflow", folder="model"), tmp_path)


def test_without_tensorflow_the_extra_is_named(tmp_path: Path) -> None:
    from tests.runtimes.saved_model_bytes import model

    model().save(tmp_path / "model")
    with pytest.raises(MissingExtra, match=r"embedmill\[tensorflow\]"):
        load_runtime(TensorFlowSpec(kind="tensorflow", folder="model"), tmp_path)
