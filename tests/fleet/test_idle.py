"""Whether a GPU is idle: no single sign is trusted, and every verdict says why."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fleet.facts import GIB, HEALTHY, MIB, NOW, fleet, gpu, host, process

from embedmill.fleet.idle import judge
from embedmill.spec.fleet import FleetSpec
from embedmill.spec.fleet_reports import GpuVerdict
from embedmill.spec.host import GpuFacts, Health, MigDevice


def verdict(card: GpuFacts, spec: FleetSpec | None = None, **changed: Any) -> GpuVerdict:
    (found,) = judge("gpu-01", spec or fleet(), host(card, **changed), now=NOW)
    return found


def said(card: GpuFacts, spec: FleetSpec | None = None, **changed: Any) -> tuple[str, str]:
    found = verdict(card, spec, **changed)
    return found.state, found.reason


def test_a_gpu_that_nobody_has_is_idle_for_as_long_as_it_was_watched() -> None:
    found = verdict(gpu(index=3, uuid="GPU-3"))
    assert (found.state, found.reason) == ("idle", "idle for 120 s")
    assert (found.server, found.index, found.uuid, found.name) == ("gpu-01", 3, "GPU-3", "Tesla T4")
    assert (found.memory_bytes, found.used_bytes) == (15 * GIB, 3 * MIB)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"processes": (process(),)}, "busy: pid 4242 (python, alice) holds 37.2 GiB"),
        ({"processes": (process(name=None, user=None),)}, "busy: pid 4242 holds 37.2 GiB"),
        ({"processes": (process(used_bytes=None),)}, "busy: pid 4242 (python, alice) has a context"),
        (
            {"processes": (process(ours=True, user="eve"),)},
            "busy: pid 4242 (python, eve, a worker of Embedmill)",
        ),
        ({"processes": (process(kind="graphics", name="blender"),)}, "busy: pid 4242 (blender, alice)"),
        ({"utilisation": (0,) * 59 + (87,)}, "busy: utilisation reached 87 % in 60 samples"),
        ({"allocations": ("slurm job 812",)}, "busy: slurm job 812"),
        ({"lease": "run 20260130-11 of similar-items"}, "busy: leased by run 20260130-11 of similar-items"),
        (
            {"processes": (process(name="Xorg"),), "used_bytes": 3 * GIB},
            "busy: 3.0 GiB were in use, and an idle one has 0.5 GiB at most",
        ),
    ],
)
def test_a_gpu_that_somebody_has_is_busy(changed: dict[str, Any], reason: str) -> None:
    state, found = said(gpu(**changed))
    assert state == "busy"
    assert found.startswith(reason)


def test_of_many_processes_those_with_most_memory_are_named() -> None:
    many = tuple(process(pid, name=None, user=None, used_bytes=pid * GIB) for pid in range(1, 6))
    named = "pid 5 holds 5.0 GiB, pid 4 holds 4.0 GiB, pid 3 holds 3.0 GiB"
    assert said(gpu(processes=many)) == ("busy", f"busy: {named}, and 2 more")


def test_one_busy_sample_between_idle_ones_is_enough() -> None:
    for place in range(1, 60):
        samples = tuple(6 if place == each else 0 for each in range(60))
        assert verdict(gpu(utilisation=samples)).state == "busy"
    assert verdict(gpu(utilisation=(5,) * 60)).state == "idle"


def test_memory_that_was_in_use_within_the_window_counts() -> None:
    assert verdict(gpu(most_used_bytes=9 * GIB)).state == "unknown"


def test_memory_that_nobody_is_seen_to_hold_is_never_idle() -> None:
    held = round(9.1 * GIB)
    assert said(gpu(used_bytes=held)) == (
        "unknown",
        "unknown: 9.1 GiB are held and no process is visible (a container's process table?)",
    )
    assert said(gpu(used_bytes=held, holders=(812,)))[1].endswith("; pid 812 has it open")
    assert said(gpu(used_bytes=held, holders=(1, 2, 3, 4)))[1].endswith(
        "; pids 1, 2, 3 and 1 more have it open"
    )


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("Xorg", "idle"),
        ("/usr/lib/xorg/Xorg", "idle"),
        ("/usr/lib/xorg/Xorg -core :0", "idle"),
        ("dcgm-exporter", "idle"),
        ("nvidia-cuda-mps-server", "idle"),
        ("python", "busy"),
        ("/home/dcgm/train", "busy"),
        (None, "busy"),
    ],
)
def test_programs_are_exempt_by_the_beginning_of_their_name(name: str | None, state: str) -> None:
    assert verdict(gpu(processes=(process(name=name, used_bytes=40 * MIB),))).state == state


def test_nothing_is_exempt_by_an_empty_name() -> None:
    spec = fleet(idle={"exempt": [""]})
    assert verdict(gpu(processes=(process(),)), spec).state == "busy"


def test_who_has_the_device_open_without_memory_is_only_remarked() -> None:
    assert said(gpu(holders=(700, 812))) == ("idle", "idle for 120 s; pids 700, 812 have it open")


@pytest.mark.parametrize(
    ("baseline", "declared", "used", "state"),
    [
        (None, None, 500, "idle"),
        (None, None, 501, "unknown"),
        (450, None, 950, "idle"),
        (450, None, 951, "unknown"),
        (450, 100, 600, "idle"),
        (450, 100, 601, "unknown"),
        (450, 0, 501, "unknown"),
    ],
)
def test_memory_counts_beyond_the_declared_or_the_learnt_baseline(
    baseline: int | None, declared: int | None, used: int, state: str
) -> None:
    spec = fleet(idle={} if declared is None else {"baseline_mib": {"gpu-01": declared}})
    known = {} if baseline is None else {"GPU-1": baseline}
    card = gpu(used_bytes=used * MIB, most_used_bytes=None)
    (found,) = judge("gpu-01", spec, host(card), now=NOW, baseline_mib=known)
    assert found.state == state


@pytest.mark.parametrize(
    ("health", "reason"),
    [
        ({"remap_pending": True}, "unhealthy: row remap pending, until a reset"),
        ({"remap_failed": True}, "unhealthy: row remap failed"),
        ({"ecc_uncorrected": 1}, "unhealthy: 1 uncorrectable ECC error"),
        ({"ecc_uncorrected": 3}, "unhealthy: 3 uncorrectable ECC errors"),
        ({"xids": (13, 79, 79)}, "unhealthy: Xid 79 since boot (GPU has fallen off the bus)"),
        (
            {"xids": (48,), "remap_pending": True},
            "unhealthy: row remap pending, until a reset, Xid 48 since boot (double-bit ECC error)",
        ),
    ],
)
def test_a_gpu_that_is_ill_is_not_idle(health: dict[str, Any], reason: str) -> None:
    assert said(gpu(health=Health(**health))) == ("unhealthy", reason)


@pytest.mark.parametrize("xid", [46, 48, 63, 64, 79, 94, 95])
def test_an_xid_of_faulty_hardware_is_an_illness(xid: int) -> None:
    assert verdict(gpu(health=Health(xids=(xid,)))).state == "unhealthy"


def test_an_xid_of_a_faulty_program_is_none() -> None:
    assert verdict(gpu(health=HEALTHY.model_copy(update={"xids": (13, 31, 43)}))).state == "idle"


def test_health_of_which_nothing_was_learned_is_said_to_be_unknown() -> None:
    assert said(gpu(health=Health())) == ("idle", "idle for 120 s; nothing of its health could be learned")
    assert said(gpu(health=Health(ecc_uncorrected=0))) == ("idle", "idle for 120 s")


@pytest.mark.parametrize("mode", ["exclusive", "prohibited"])
def test_a_compute_mode_that_others_would_suffer_from_makes_it_unfit(mode: str) -> None:
    state, reason = said(gpu(compute_mode=mode))
    assert state == "unfit"
    assert reason.startswith(f"unfit: compute mode {mode}: ")


@pytest.mark.parametrize(
    ("card", "facts", "reason"),
    [
        ({"processes": None}, {}, "unknown: the table of processes could not be read"),
        ({}, {"namespaced": True}, "unknown: pids here are a container's"),
        ({"compute_mode": None}, {}, "unknown: the compute mode could not be read"),
        ({"utilisation": ()}, {}, "unknown: utilisation could not be read"),
        ({"utilisation": (0,) * 3}, {}, "unknown: 3 samples of utilisation, and at least 30 are needed"),
        ({}, {"window_s": 60.0}, "unknown: it was watched for 60 s, and 120 s are asked for"),
        ({}, {"window_s": 0.0}, "unknown: it was watched for 0 s"),
    ],
)
def test_what_could_not_be_learned_is_never_idle(
    card: dict[str, Any], facts: dict[str, Any], reason: str
) -> None:
    state, found = said(gpu(**card), None, **facts)
    assert state == "unknown"
    assert found.startswith(reason)


def test_a_sign_of_work_counts_although_other_things_are_unknown() -> None:
    unlearnt = {"window_s": 1.0, "namespaced": True, "source": "nvidia-smi"}
    assert verdict(gpu(processes=None, utilisation=(99,)), None, **unlearnt).state == "busy"


def test_without_a_window_one_look_is_enough() -> None:
    spec = fleet(idle={"window_s": 0})
    assert said(gpu(utilisation=(0,)), spec, window_s=0.0) == ("idle", "idle in one look")
    assert verdict(gpu(utilisation=()), spec, window_s=0.0).state == "unknown"


@pytest.mark.parametrize(("persistence", "state"), [(True, "busy"), (False, "idle"), (None, "idle")])
def test_the_first_sample_counts_only_where_the_driver_ran_already(
    persistence: bool | None, state: str
) -> None:
    scrubbing = (100,) + (0,) * 59
    assert verdict(gpu(utilisation=scrubbing, persistence=persistence)).state == state
    assert verdict(gpu(utilisation=(0, 100) + (0,) * 58, persistence=persistence)).state == "busy"


def test_nvidia_smi_is_believed_as_far_as_it_tells() -> None:
    assert verdict(gpu(health=Health()), None, source="nvidia-smi").state == "idle"
    assert verdict(gpu(processes=None), None, source="nvidia-smi").state == "unknown"


def test_nvidia_smi_is_asked_less_often_than_nvml_and_needs_fewer_samples() -> None:
    assert verdict(gpu(utilisation=(0,) * 6), None, source="nvidia-smi").state == "idle"
    assert verdict(gpu(utilisation=(0,) * 5), None, source="nvidia-smi").state == "unknown"
    assert verdict(gpu(utilisation=(0,) * 6)).state == "unknown"


def slices(
    *devices: MigDevice, facts: dict[str, Any] | None = None, **changed: Any
) -> list[tuple[str, str, str, str]]:
    card = gpu(name="NVIDIA A100", mig=True, mig_devices=devices, utilisation=(), **changed)
    found = judge("gpu-01", fleet(), host(card, **(facts or {})), now=NOW)
    return [(each.uuid, each.name, each.state, each.reason) for each in found]


def device(uuid: str, used_mib: int = 10, **changed: Any) -> MigDevice:
    return MigDevice(
        uuid=uuid, profile="1g.10gb", memory_bytes=10 * GIB, used_bytes=used_mib * MIB, **changed
    )


def test_slices_are_judged_one_by_one_by_memory_and_processes() -> None:
    found = slices(device("MIG-a"), device("MIG-b", processes=(process(),)), device("MIG-c", used_mib=4096))
    assert found == [
        ("GPU-1", "NVIDIA A100", "unfit", "unfit: in MIG mode, with 3 slices"),
        (
            "MIG-a",
            "NVIDIA A100 1g.10gb",
            "idle",
            "idle: 0.0 GiB in use, no process; a slice has no utilisation",
        ),
        ("MIG-b", "NVIDIA A100 1g.10gb", "busy", "busy: pid 4242 (python, alice) holds 37.2 GiB"),
        (
            "MIG-c",
            "NVIDIA A100 1g.10gb",
            "unknown",
            "unknown: 4.0 GiB are held and no process is visible (a container's process table?)",
        ),
    ]


def test_a_slice_that_is_borrowed_leaves_the_others_free() -> None:
    found = slices(device("MIG-a", lease="run 1"), device("MIG-b"))
    assert [state for _, _, state, _ in found] == ["unfit", "busy", "idle"]
    assert found[1][3] == "busy: leased by run 1"


def test_what_is_true_of_the_gpu_is_true_of_its_slices() -> None:
    assert [state for _, _, state, _ in slices(device("MIG-a"), lease="run 1")] == ["unfit", "busy"]
    ill = slices(device("MIG-a"), health=Health(remap_failed=True))
    assert [state for _, _, state, _ in ill] == ["unfit", "unhealthy"]


@pytest.mark.parametrize("facts", [{"namespaced": True}, {"window_s": 60.0}])
def test_a_slice_of_which_too_little_is_known_is_not_idle(facts: dict[str, Any]) -> None:
    assert [state for _, _, state, _ in slices(device("MIG-a"), facts=facts)] == ["unfit", "unknown"]


@pytest.mark.parametrize(
    ("reservation", "reason"),
    [
        ({"why": "training"}, "reserved: training"),
        ({}, "reserved"),
        ({"hours": ["08:00-20:00"], "why": "training"}, "reserved until 20:00: training"),
        ({"hours": ["Fri 08:00-20:00", "20:00-24:00"]}, "reserved until Sat 00:00"),
        ({"gpus": [0]}, "reserved"),
        ({"servers": ["all"]}, "reserved"),
    ],
)
def test_a_reserved_gpu_says_until_when_and_why(reservation: dict[str, Any], reason: str) -> None:
    spec = fleet(pools={"all": ["gpu-01"]}, reserved=[{"servers": ["gpu-01"], **reservation}])
    assert said(gpu(processes=(process(),)), spec) == ("reserved", reason)


@pytest.mark.parametrize(
    "reservation",
    [
        {"hours": ["Mon-Thu 08:00-20:00"]},
        {"hours": ["13:00-20:00"]},
        {"gpus": [1, 2]},
        {"servers": ["gpu-02"]},
    ],
)
def test_what_is_reserved_elsewhere_or_at_another_time_is_not(reservation: dict[str, Any]) -> None:
    spec = fleet("gpu-01", "gpu-02", reserved=[{"servers": ["gpu-01"], **reservation}])
    assert verdict(gpu(), spec).state == "idle"


def test_of_several_reservations_the_one_that_ends_last_is_told() -> None:
    until = [
        {"servers": ["gpu-01"], "hours": [f"08:00-{hour}:00"], "why": str(hour)} for hour in (14, 20, 18)
    ]
    assert said(gpu(), fleet(reserved=until)) == ("reserved", "reserved until 20:00: 20")
    always = [*until, {"servers": ["gpu-01"], "why": "a paper"}]
    assert said(gpu(), fleet(reserved=always)) == ("reserved", "reserved: a paper")


FACTS = st.fixed_dictionaries(
    {
        "used_bytes": st.sampled_from([0, 400 * MIB, 600 * MIB, 9 * GIB]),
        "most_used_bytes": st.sampled_from([None, 0, 9 * GIB]),
        "utilisation": st.sampled_from([(), (0,), (0,) * 60, (0,) * 59 + (6,)]),
        "processes": st.sampled_from([None, (), (process(),), (process(name="Xorg", used_bytes=MIB),)]),
        "compute_mode": st.sampled_from([None, "default", "exclusive"]),
        "health": st.sampled_from([Health(), HEALTHY, Health(xids=(79,))]),
        "lease": st.sampled_from([None, "run 1"]),
    }
)


@given(FACTS, st.booleans(), st.sampled_from([0.0, 120.0]))
def test_idle_is_only_what_has_every_sign_of_it(
    changed: dict[str, Any], namespaced: bool, window_s: float
) -> None:
    card = gpu(**changed)
    found = verdict(card, None, namespaced=namespaced, window_s=window_s)
    assert found.reason.startswith(found.state)
    signs = (
        max(card.used_bytes, card.most_used_bytes or 0) <= 500 * MIB,
        len(card.utilisation) >= 30 and max(card.utilisation) <= 5,
        card.processes is not None and all(each.name == "Xorg" for each in card.processes),
        card.compute_mode == "default",
        not card.health.xids,
        card.lease is None,
        not namespaced,
        window_s == 120,
    )
    assert (found.state == "idle") == all(signs)
