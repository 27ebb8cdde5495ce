"""Is somebody else on the GPU? The rules, one by one."""

from __future__ import annotations

from typing import Any

import pytest

from embedmill.devices.watch import BLIND_S, MIB, Limits, Occupant, Sample, Suspicion, stranger, too_busy

OURS = frozenset({10, 11})


def seen(*pids: int, used_mib: int = 3, each_mib: int | None = 0, name: str = "python") -> Sample:
    each = None if each_mib is None else each_mib * MIB
    return Sample(tuple(Occupant(pid, name, each) for pid in pids), used_mib * MIB, 0)


def limits(**changes: Any) -> Limits:
    return Limits(baseline_bytes=3 * MIB)._replace(**changes)


def test_alone_on_a_gpu_nobody_came() -> None:
    assert stranger(seen(10, 11, used_mib=2003, each_mib=1000), OURS, limits()) == ""


def test_a_process_that_is_not_ours_has_come_however_little_it_takes() -> None:
    assert stranger(seen(10, 4242), OURS, limits()) == "pid 4242 (python) came"


@pytest.mark.parametrize("name", ["Xorg", "/usr/lib/xorg/Xorg", "nvidia-cuda-mps-server"])
def test_exempt_programs_may_be_there(name: str) -> None:
    exempt = limits(exempt=("Xorg", "nvidia-cuda-mps-server"))
    assert stranger(seen(4242, name=name), OURS, exempt) == ""
    assert stranger(seen(4242, name="not-" + name.rsplit("/", 1)[-1]), OURS, exempt) != ""


def test_memory_that_no_process_accounts_for_is_somebodys() -> None:
    assert stranger(seen(10, used_mib=1503, each_mib=1000), OURS, limits()) == ""
    assert stranger(seen(10, used_mib=1504, each_mib=1000), OURS, limits()) == (
        "501 MiB are in use that are not ours"
    )


def test_where_the_memory_of_ours_is_not_told_memory_tells_nothing() -> None:
    assert stranger(seen(10, used_mib=9000, each_mib=None), OURS, limits()) == ""


def test_in_a_container_memory_tells_as_far_as_our_own_is_limited() -> None:
    blind = limits(pids_tell=False)
    assert stranger(seen(4242, used_mib=9000), OURS, blind) == ""
    limited = blind._replace(own_bytes=4000 * MIB)
    assert stranger(seen(used_mib=4503), OURS, limited) == ""
    assert stranger(seen(4242, used_mib=4504), OURS, limited) == "501 MiB are in use that are not ours"


def test_before_we_are_there_anybody_and_any_work_is_too_much() -> None:
    assert too_busy(seen(), limits(), 5) == ""
    assert too_busy(seen(4242), limits(), 5) == "pid 4242 (python) is there"
    assert too_busy(seen(used_mib=600), limits(), 5) == "597 MiB are in use that are not ours"
    assert too_busy(seen()._replace(utilisation=5), limits(), 5) == ""
    assert "6 %" in too_busy(seen()._replace(utilisation=6), limits(), 5)
    assert too_busy(seen()._replace(utilisation=None), limits(), 5) == ""
    assert "597 MiB" in too_busy(seen(used_mib=600), limits(pids_tell=False), 5)


def test_a_gpu_is_given_back_after_two_samples_in_a_row() -> None:
    suspicion = Suspicion("GPU-1", limits(), now_s=0)
    assert suspicion.hear(seen(10, 4242), OURS, 1) == ""
    assert suspicion.hear(seen(10), OURS, 2) == "", "it was one that had just ended"
    assert suspicion.hear(seen(10, 4242), OURS, 3) == ""
    assert suspicion.hear(seen(10, 4243), OURS, 4) == "GPU-1: pid 4243 (python) came"


def test_a_gpu_that_is_out_of_sight_for_long_is_given_back() -> None:
    suspicion = Suspicion("GPU-1", limits(), now_s=0)
    assert suspicion.blind(BLIND_S - 1, "GPU is lost") == ""
    assert suspicion.hear(seen(10), OURS, BLIND_S) == ""
    assert suspicion.blind(2 * BLIND_S - 1, "GPU is lost") == ""
    assert suspicion.blind(2 * BLIND_S, "GPU is lost") == "GPU-1: out of sight for 8 s: GPU is lost"


def test_where_nobody_said_what_an_idle_gpu_has_in_use_the_first_sample_does() -> None:
    suspicion = Suspicion("GPU-1", limits(baseline_bytes=None), now_s=0)
    for used_mib in (700, 1100, 1200):
        assert suspicion.hear(seen(10, used_mib=used_mib), OURS, 0) == ""
    assert suspicion.hear(seen(10, used_mib=1201), OURS, 0) == ""
    assert suspicion.hear(seen(10, used_mib=1201), OURS, 0) == "GPU-1: 501 MiB are in use that are not ours"
