"""Which idle GPUs are borrowed within the limits, and why not the others."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fleet.facts import GIB, NOW, fleet, gpu, host

from embedmill.fleet.choosing import Choice, borrowed_now, choose
from embedmill.spec.fleet import FleetSpec
from embedmill.spec.fleet_reports import FleetMatch, FleetProbe, GpuMatch, GpuVerdict, ServerProbe
from embedmill.spec.host import MigDevice

SERVERS = ("gpu-01", "gpu-02", "gpu-03", "gpu-04")


def idle(server: str, index: int = 0, gib: int = 16, **changed: Any) -> GpuVerdict:
    values: dict[str, Any] = {
        "server": server,
        "index": index,
        "uuid": f"GPU-{server}-{index}",
        "name": "Tesla T4",
        "state": "idle",
        "reason": "idle for 120 s",
        "memory_bytes": gib * GIB,
        "used_bytes": 0,
    }
    return GpuVerdict(**{**values, **changed})


def limited(**limits: Any) -> FleetSpec:
    return fleet(*SERVERS, limits=limits)


def taken(found: tuple[Choice, ...]) -> list[str]:
    return [each.gpu.uuid.removeprefix("GPU-gpu-") for each in found if each.taken]


def reasons(found: tuple[Choice, ...]) -> dict[str, str]:
    return {each.gpu.uuid.removeprefix("GPU-gpu-"): each.reason for each in found if not each.taken}


def test_without_limits_every_idle_gpu_is_taken_and_the_others_say_why_not() -> None:
    busy = idle("gpu-02", state="busy", reason="busy: slurm job 812")
    found = choose([busy, idle("gpu-01")], limited(), now=NOW)
    assert taken(found) == ["01-0"]
    assert reasons(found) == {"02-0": "not taken: busy: slurm job 812"}
    assert found[0].reason == "idle for 120 s"


def test_the_largest_come_first_and_equal_ones_from_different_servers() -> None:
    several = [idle(server, index) for server in ("gpu-01", "gpu-02") for index in (0, 1)]
    found = choose([*several, idle("gpu-03", gib=80)], limited(gpus=3), now=NOW)
    assert taken(found) == ["03-0", "01-0", "02-0"]
    assert reasons(found) == dict.fromkeys(["01-1", "02-1"], "not taken: limit of 3 GPUs")


def test_where_few_servers_may_lend_those_with_most_idle_memory_do() -> None:
    many = [idle("gpu-02", index) for index in range(3)]
    found = choose([idle("gpu-01", gib=24), *many, idle("gpu-03", gib=40)], limited(servers=2), now=NOW)
    assert taken(found) == ["03-0", "02-0", "02-1", "02-2"]
    assert reasons(found) == {"01-0": "not taken: limit of 2 servers (gpu-02, gpu-03)"}


def test_what_is_borrowed_already_counts() -> None:
    four = [idle(server) for server in SERVERS]
    borrowed = {("gpu-04", "GPU-x"), ("gpu-04", "GPU-y")}
    assert taken(choose(four, limited(gpus=3), now=NOW, borrowed=borrowed)) == ["01-0"]
    assert taken(choose(four, limited(servers=2), now=NOW, borrowed=borrowed)) == ["01-0", "04-0"]
    full = choose(four, limited(gpus=1), now=NOW, borrowed=borrowed)
    assert taken(full) == []
    assert set(reasons(full).values()) == {"not taken: limit of 1 GPU"}
    elsewhere = choose(four[:3], limited(servers=1), now=NOW, borrowed=borrowed)
    assert set(reasons(elsewhere).values()) == {"not taken: limit of 1 server (gpu-04)"}


def test_nothing_is_borrowed_within_the_hours_of_never() -> None:
    found = choose([idle("gpu-01")], limited(never=["08:00-20:00"]), now=NOW)
    assert reasons(found) == {"01-0": "not taken: nothing is borrowed until 20:00"}
    assert taken(choose([idle("gpu-01")], limited(never=["13:00-20:00"]), now=NOW)) == ["01-0"]
    always = choose([idle("gpu-01")], limited(never=["00:00-24:00"]), now=NOW)
    assert reasons(always) == {"01-0": "not taken: nothing is borrowed"}


def test_a_gpu_that_no_image_runs_on_is_not_taken_and_takes_no_place() -> None:
    matches = [
        GpuMatch(
            server=server,
            index=0,
            uuid=f"GPU-{server}-0",
            name="Tesla T4",
            driver="535.54.03",
            compute_capability=(7, 5),
            chosen=chosen,
            verdicts=(),
        )
        for server, chosen in (("gpu-01", None), ("gpu-02", "tf"))
    ]
    two = [idle("gpu-01", gib=80), idle("gpu-02")]
    found = choose(two, limited(gpus=1), now=NOW, match=FleetMatch(gpus=tuple(matches)))
    assert taken(found) == ["02-0"]
    assert reasons(found) == {"01-0": "not taken: no image is for it"}


def test_leased_gpus_are_those_that_are_borrowed_now() -> None:
    devices = [
        MigDevice(uuid=uuid, profile="1g.5gb", memory_bytes=5 * GIB, used_bytes=0, lease=lease)
        for uuid, lease in [("MIG-a", None), ("MIG-b", "run 2")]
    ]
    sliced = gpu(uuid="GPU-c", index=2, mig=True, mig_devices=tuple(devices))
    facts = host(gpu(uuid="GPU-a", lease="run 1"), gpu(uuid="GPU-b", index=1), sliced)
    servers = (
        ServerProbe(server="gpu-01", state="ok", reason="", seconds=1, facts=facts),
        ServerProbe(server="gpu-02", state="timeout", reason="no answer in 30 s", seconds=30),
    )
    probe = FleetProbe(taken="2026-01-30T12:00:00Z", seconds=1, servers=servers)
    assert borrowed_now(probe) == {("gpu-01", "GPU-a"), ("gpu-01", "MIG-b")}


verdicts = st.lists(
    st.builds(
        idle,
        st.sampled_from(SERVERS),
        st.integers(0, 7),
        st.sampled_from([16, 40, 80]),
        state=st.sampled_from(["idle", "busy"]),
    ),
    unique_by=lambda each: each.uuid,
    max_size=12,
)


@given(verdicts, st.none() | st.integers(1, 4), st.none() | st.integers(1, 6), st.randoms())
def test_the_choice_depends_on_the_facts_alone_and_keeps_every_limit(
    gpus: list[GpuVerdict], servers: int | None, count: int | None, chance: random.Random
) -> None:
    spec = limited(servers=servers, gpus=count)
    found = choose(gpus, spec, now=NOW)
    shuffled = list(gpus)
    chance.shuffle(shuffled)
    assert choose(shuffled, spec, now=NOW) == found
    assert sorted(each.gpu.uuid for each in found) == sorted(each.uuid for each in gpus)
    chosen = [each.gpu for each in found if each.taken]
    assert all(each.state == "idle" for each in chosen)
    assert servers is None or len({each.server for each in chosen}) <= servers
    assert count is None or len(chosen) <= count
    if servers is None:
        free = sum(each.state == "idle" for each in gpus)
        assert len(chosen) == (free if count is None else min(free, count))


@pytest.mark.parametrize("limits", [{"gpus": 2}, {"servers": 1}])
def test_no_gpu_at_all_is_no_choice(limits: dict[str, int]) -> None:
    assert choose([], limited(**limits), now=NOW) == ()
