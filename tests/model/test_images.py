"""How many decoders stand beside a runtime: as many as keep it busy, whatever it computes on."""

from __future__ import annotations

import pytest

from embedmill.cores import cores
from embedmill.model.images import decoders_beside


@pytest.mark.parametrize("threads", [1, 2, 16])
def test_on_a_cpu_decoders_share_the_cores_of_the_runtime(threads: int) -> None:
    assert decoders_beside("cpu", threads) == threads


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "tpu"])
def test_an_accelerator_leaves_them_all_cores_that_there_are_up_to_a_limit(device: str) -> None:
    assert decoders_beside(device, 1) == cores()
    assert decoders_beside(device, 100) == 100
