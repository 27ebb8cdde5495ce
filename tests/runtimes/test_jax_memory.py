"""What JAX is started with, shown without it and without GPUs: XLA reads it once."""

from __future__ import annotations

import pytest
from tests.runtimes.fake_cuda import Driver

from embedmill.errors import DeviceUnavailable
from embedmill.runtimes import Place
from embedmill.runtimes.jax import FRACTIONS, variables

GROWS = {"NPROC": "3", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


@pytest.fixture(autouse=True)
def _nobody_has_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FRACTIONS:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("declared", "here", "share"),
    [
        (8192, None, "0.1000"),
        (None, 8192, "0.1000"),
        (16384, 8192, "0.1000"),
        (8192, 16384, "0.1000"),
        (10000, None, "0.1220"),
        (70000, None, "0.7500"),
    ],
)
def test_a_limit_is_a_share_of_the_gpus_memory_and_at_most_what_xla_takes_anyway(
    declared: int | None, here: int | None, share: str
) -> None:
    place = Place("cuda", threads=3, gpu_memory_mib=here)
    found = variables(place, declared, driver=Driver())
    assert found == {**GROWS, "XLA_CLIENT_MEM_FRACTION": share}


def test_without_a_limit_and_on_a_cpu_no_driver_is_asked() -> None:
    broken = Driver(broken=803)
    assert variables(Place("cuda", threads=3), None, driver=broken) == GROWS
    assert variables(Place("cpu", threads=3, gpu_memory_mib=1), 1, driver=broken) == GROWS
    with pytest.raises(DeviceUnavailable, match="803"):
        variables(Place("cuda"), 1, driver=broken)


@pytest.mark.parametrize("name", FRACTIONS)
def test_whoever_has_said_how_much_xla_may_take_is_obeyed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "0.5")
    assert variables(Place("cuda", threads=3), 8192, driver=Driver()) == GROWS
