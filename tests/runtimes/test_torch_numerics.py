"""How the torch runtime sets torch up, shown on a stand-in: there was no GPU to show it on."""

from __future__ import annotations

import os
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from embedmill.errors import DeviceUnavailable
from embedmill.runtimes import Place
from embedmill.runtimes.torch import check_place, numerics, prepare_cuda
from embedmill.spec import TorchSpec


class Library:
    """What numerics and devices are in torch."""

    __version__ = "2.13.0"

    def __init__(self, gpus: int = 1) -> None:
        self.threads = 0
        self.deterministic = False
        self.inside: list[str] = []
        self.caps: dict[int, float] = {}
        product, convolution, recurrence = (SimpleNamespace(fp32_precision="tf32") for _ in range(3))
        self.backends = SimpleNamespace(
            cuda=SimpleNamespace(matmul=product), cudnn=SimpleNamespace(conv=convolution, rnn=recurrence)
        )
        self.cuda = SimpleNamespace(
            is_available=lambda: gpus > 0,
            device_count=lambda: gpus,
            set_per_process_memory_fraction=lambda share, index: self.caps.update({index: share}),
            get_device_properties=lambda index: SimpleNamespace(total_memory=16 << 30),
        )
        self.bfloat16 = "bfloat16"
        self.float16 = "float16"

    @property
    def rounding(self) -> set[str]:
        cudnn = self.backends.cudnn
        return {part.fp32_precision for part in (self.backends.cuda.matmul, cudnn.conv, cudnn.rnn)}

    def set_num_threads(self, threads: int) -> None:
        self.threads = threads

    def are_deterministic_algorithms_enabled(self) -> bool:
        return self.deterministic

    def use_deterministic_algorithms(self, mode: bool) -> None:
        self.deterministic = mode

    @contextmanager
    def inference_mode(self) -> Any:
        self.inside.append("inference")
        yield

    @contextmanager
    def autocast(self, kind: str, *, dtype: Any) -> Any:
        self.inside.append(f"{kind} in {dtype}")
        yield


@pytest.mark.parametrize(
    ("precision", "rounding"), [("float32", "ieee"), ("tf32", "tf32"), ("float16", "ieee")]
)
def test_on_a_gpu_tf32_is_off_unless_declared_and_sums_have_one_order(precision: Any, rounding: str) -> None:
    library = Library()
    with numerics(cast("Any", library), Place("cuda", 0, 3, precision)):
        assert library.rounding == {rounding}
        assert library.deterministic
        assert library.threads == 3
        assert library.inside == ["inference", *(["cuda in float16"] if precision == "float16" else [])]
    assert not library.deterministic


def test_a_gpu_is_capped_and_told_to_be_deterministic_before_its_first_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    library = Library(gpus=2)
    prepare_cuda(cast("Any", library), Place("cuda", 1), spec(memory_fraction=0.25))
    assert library.caps == {1: 0.25}
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    prepare_cuda(cast("Any", library), Place("cuda", 1), spec())
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


@pytest.mark.parametrize(
    ("declared", "here", "share"),
    [
        ({"memory_limit_mib": 4096}, None, 0.25),
        ({"memory_limit_mib": 4096}, 2048, 0.125),
        ({"memory_fraction": 0.2}, 4096, 0.2),
        ({"memory_fraction": 0.5}, 4096, 0.25),
        ({"memory_limit_mib": 99999}, None, 1.0),
        ({}, None, None),
    ],
)
def test_the_lowest_of_all_limits_is_the_share_of_a_gpu_with_16_gib(
    declared: dict[str, Any], here: int | None, share: float | None
) -> None:
    library = Library()
    prepare_cuda(cast("Any", library), Place("cuda", gpu_memory_mib=here), spec(**declared))
    assert library.caps == ({} if share is None else {0: share})


def spec(**limits: Any) -> TorchSpec:
    return TorchSpec(kind="torch", file="model.pt2", **limits)


@pytest.mark.parametrize(("gpus", "device"), [(0, "cuda"), (1, "cuda:1"), (2, "cuda:2")])
def test_a_gpu_that_torch_does_not_see_is_an_error_of_its_own(gpus: int, device: str) -> None:
    with pytest.raises(DeviceUnavailable, match=rf"no device cuda:\d .*sees {gpus}"):
        check_place(cast("Any", Library(gpus)), Place.of(device))


@pytest.mark.parametrize(("device", "precision"), [("cpu", "tf32"), ("tpu", "float32")])
def test_what_torch_does_not_compute_in_or_on_is_refused(device: str, precision: Any) -> None:
    with pytest.raises(DeviceUnavailable, match=r"torch: "):
        check_place(cast("Any", Library()), Place.of(device, precision=precision))
