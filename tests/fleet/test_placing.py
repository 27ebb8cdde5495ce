"""Facts of servers become places for loops; whatever is passed over is named with its reason."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest
from tests.fleet.facts import GIB, MIB, NOW, fleet, gpu, host, process

from embedmill.engines.ssh import holder_name, holder_order
from embedmill.errors import DeviceUnavailable, SpecError
from embedmill.fleet.borrowing import lending_of, reachable_from
from embedmill.fleet.container import Room
from embedmill.fleet.idle import judge
from embedmill.fleet.matching import match_fleet
from embedmill.fleet.placing import Placing, Spot, Start, in_container
from embedmill.spec import CatalogSpec, ImagesSpec, PipelineSpec, WorkSpec
from embedmill.spec.fleet import FleetSpec, RoomSpec, ServerSpec
from embedmill.spec.fleet_reports import FleetProbe, ServerProbe
from embedmill.spec.host import ContainerTool, GpuFacts, HostFacts, MigDevice
from embedmill.store.credentials import Lending
from embedmill.types import Host, Look, YieldRule

RUN_URL = "s3://mill/shop/runs/20260130T120000000-0000"
ID = "sha256:" + "ab" * 32
IMAGES = ImagesSpec.model_validate(
    {"images": {"tf-2.15": {"image": ID, "runtimes": {"onnx": "1"}, "cuda": "12.2", "sass": ["7.5"]}}}
)
TOOL = ContainerTool(name="podman", version="4.3.1", runtimes=("runc",), nvidia=True)


def test_an_idle_gpu_with_an_image_is_a_place() -> None:
    (place,) = look(fleet("gpu-01"), {"gpu-01": host(gpu())}).free
    assert (place.worker, place.device, place.gpus) == ("gpu-01-0", "cuda", ("GPU-1",))
    assert (place.type, place.image) == ("Tesla T4", "tf-2.15")
    assert place.host == Host("gpu-01", ("ssh", "gpu-01"), "/var/tmp/embedmill")
    assert place.command == ("podman", "run", "GPU-1")


def test_a_place_says_when_its_gpu_is_given_back() -> None:
    spec = fleet("gpu-01", idle={"memory_mib": 700, "utilisation": 9, "exempt": ["Xorg"]})
    (place,) = look(spec, {"gpu-01": host(gpu(used_bytes=30 * MIB))}).free
    assert place.yields == YieldRule(baseline_mib=30, memory_mib=700, utilisation=9, exempt=("Xorg",))
    declared = fleet("gpu-01", idle={"baseline_mib": {"gpu-01": 12}})
    (place,) = look(declared, {"gpu-01": host(gpu())}).free
    assert place.yields is not None
    assert place.yields.baseline_mib == 12


def test_what_is_passed_over_is_named_with_its_reason() -> None:
    busy = gpu(index=1, uuid="GPU-2", processes=(process(),))
    old = gpu(uuid="GPU-3", name="Tesla K80", compute_capability=(3, 7))
    servers = {"gpu-01": host(gpu(), busy), "gpu-02": host(old), "gpu-03": None}
    found = look(fleet("gpu-01", "gpu-02", "gpu-03"), servers)
    assert [place.worker for place in found.free] == ["gpu-01-0"]
    assert found.passed_over.keys() == {"gpu-01 #1 (Tesla T4)", "gpu-02 #0 (Tesla K80)", "gpu-03"}
    assert "busy: " in found.passed_over["gpu-01 #1 (Tesla T4)"]
    assert found.passed_over["gpu-02 #0 (Tesla K80)"] == "not taken: no image is for it"
    assert found.passed_over["gpu-03"] == "unreachable: no route to host"


def test_limits_count_what_is_borrowed_by_whomever() -> None:
    leased = gpu(index=1, uuid="GPU-2", lease="ada: worker gpu-01-1.0123456789ab, pid 7, since today")
    third = gpu(index=2, uuid="GPU-3")
    spec = fleet("gpu-01", limits={"gpus": 2})
    found = look(spec, {"gpu-01": host(gpu(), leased, third)})
    assert [place.worker for place in found.free] == ["gpu-01-0"]
    assert "limit of 2 GPUs" in found.passed_over["gpu-01 #2 (Tesla T4)"]


def test_a_gpu_that_a_loop_of_this_run_holds_is_a_place_whatever_the_limits_say() -> None:
    words = f"me: worker {holder_name(RUN_URL, 'gpu-01-0')}, pid 7, since today"
    spec = fleet("gpu-01", limits={"gpus": 1})
    found = look(spec, {"gpu-01": host(gpu(lease=words), gpu(index=1, uuid="GPU-2"))})
    assert [place.worker for place in found.free] == ["gpu-01-0"]


def test_the_lock_of_a_loop_of_another_run_makes_no_place() -> None:
    words = f"me: worker {holder_name(RUN_URL + '1', 'gpu-01-0')}, pid 7, since today"
    found = look(fleet("gpu-01"), {"gpu-01": host(gpu(lease=words))})
    assert (found.free, list(found.passed_over)) == ((), ["gpu-01 #0 (Tesla T4)"])


def test_loops_that_run_are_neither_places_nor_news() -> None:
    words = f"me: worker {holder_name(RUN_URL, 'gpu-01-0')}, pid 7, since today"
    assert look(fleet("gpu-01"), {"gpu-01": host(gpu(lease=words))}, held=["gpu-01-0"]) == Look((), {})


def test_no_more_loops_are_placed_than_there_are_shards() -> None:
    found = look(fleet("gpu-01"), {"gpu-01": host(gpu(), gpu(index=1, uuid="GPU-2"))}, most=1)
    assert len(found.free) == 1
    assert found.passed_over == {"gpu-01 #1 (Tesla T4)": "not taken: there are no more shards"}


def test_slices_of_one_gpu_have_loops_of_different_names() -> None:
    found = look(fleet("gpu-01"), {"gpu-01": host(sliced())})
    assert sorted(place.worker for place in found.free) == ["gpu-01-0-aaaaaaaa", "gpu-01-0-bbbbbbbb"]
    assert sorted(place.gpus for place in found.free) == [("MIG-aaaaaaaa-1",), ("MIG-bbbbbbbb-1",)]


def test_a_slice_that_a_loop_of_this_run_holds_is_a_place_and_the_next_one_is_not() -> None:
    mine = f"me: worker {holder_name(RUN_URL, 'gpu-01-0-aaaaaaaa')}, pid 7, since today"
    other = f"me: worker {holder_name(RUN_URL + '1', 'gpu-01-0-bbbbbbbb')}, pid 7, since today"
    found = look(fleet("gpu-01"), {"gpu-01": host(sliced(mine, other))})
    assert [place.worker for place in found.free] == ["gpu-01-0-aaaaaaaa"]
    assert "leased by" in found.passed_over["gpu-01 #0-bbbbbbbb (Tesla T4 1g.5gb)"]


def test_a_server_without_python_is_passed_over_for_nothing_there_could_keep_a_lock() -> None:
    facts = host(gpu(utilisation=(0,) * 13), source="nvidia-smi")
    found = look(fleet("gpu-01"), {"gpu-01": facts})
    assert found.free == ()
    assert "no python3" in found.passed_over["gpu-01"]
    assert look(fleet("gpu-01"), {"gpu-01": facts.model_copy(update={"python": "3.9.2"})}).free


def test_a_place_has_the_room_that_its_server_gives() -> None:
    facts = host(gpu(), tools=(TOOL,), cores=8)
    spec = fleet("gpu-01", room={"memory_mib": 8192, "gpu_memory_mib": 6000, "processes": 99})
    named = spec.model_copy(
        update={"servers": {"gpu-01": ServerSpec(room=RoomSpec(memory_mib=2048, scratch="/scratch/us"))}}
    )
    (general,), (own,) = (
        look(each, {"gpu-01": facts}, start=in_container("run-1", Room())).free for each in (spec, named)
    )
    assert {"--memory=8192m", "--pids-limit=99", "--env=OMP_NUM_THREADS=4"} <= set(general.command)
    assert {"--memory=2048m", "--pids-limit=99"} <= set(own.command)
    assert "--mount=type=bind,source=/scratch/us,target=/tmp" in own.command
    assert (general.gpu_memory_mib, general.threads) == (6000, 4)
    order = holder_order(own, RUN_URL, {})
    assert "--gpu-memory 6000" in " ".join(order["command"])


def test_a_server_where_no_loop_can_be_started_is_passed_over() -> None:
    def fail(_: Spot) -> Start:
        raise DeviceUnavailable("gpu-01: no podman or docker was found there", hint="install one")

    found = look(fleet("gpu-01"), {"gpu-01": host(gpu())}, start=fail)
    assert found.free == ()
    assert found.passed_over["gpu-01 #0 (Tesla T4)"].startswith("not taken: gpu-01: no podman or docker")


def test_loops_in_containers_are_known_by_their_ids_and_removed_with_their_names() -> None:
    facts = host(gpu(), tools=(TOOL,), uid=1000, gid=1000)
    (place,) = look(fleet("gpu-01"), {"gpu-01": facts}, start=in_container("run-1", Room())).free
    assert place.cid_file == "/var/tmp/embedmill/workers/1000/embedmill-run-1-gpu-01-0.cid"
    assert place.command[:3] == ("podman", "run", f"--cidfile={place.cid_file}")
    assert "--interactive" in place.command
    assert place.cleanup == ("podman", "rm", "--force", "embedmill-run-1-gpu-01-0")


def test_a_folder_is_open_to_servers_that_mount_it_and_the_others_are_named() -> None:
    spec = FleetSpec.model_validate({"servers": {"a": {"mounts": ["/mnt/mill"]}, "b": {}}})
    names, refused = reachable_from("/mnt/mill/shop", spec, ("a", "b"))
    assert (names, refused) == (("a",), {"b": "not asked: /mnt/mill/shop is not in its `mounts`"})


@pytest.mark.parametrize("store", ["/home/me/mill", "file:///home/me/mill", "memory://mill"])
def test_a_store_that_no_server_can_open_is_refused_with_what_to_do(store: str) -> None:
    with pytest.raises(SpecError, match="use a bucket"):
        reachable_from(store, fleet("a", "b"), ("a", "b"))


def test_a_bucket_is_open_to_all() -> None:
    assert reachable_from("s3://mill/x", fleet("a", "b"), ("a", "b")) == (("a", "b"), {})


@pytest.mark.parametrize(
    ("catalog", "reads"),
    [
        ({"source": "items.csv"}, ()),
        ({"source": "items.csv", "images": "store:pictures"}, ("pictures/",)),
        ({"source": "store:day/items-*.parquet"}, ("day/",)),
        ({"source": "store:day/2026/"}, ("day/2026/",)),
        ({"source": "store:items.csv"}, ()),
        ({"source": "store:day/items.csv", "images": "/here"}, ()),
    ],
)
def test_workers_may_read_the_folders_of_images_in_the_store(catalog: dict[str, Any], reads: Any) -> None:
    spec = PipelineSpec(
        name="shop",
        catalog=CatalogSpec(id="sku", **catalog),
        model="m",
        store="s3://mill/x",
        work=WorkSpec(role="arn:aws:iam::1:role/w", role_lasts_s=900, lend_keys=True),
    )
    assert lending_of(spec) == Lending("arn:aws:iam::1:role/w", 900, True, reads)


def sliced(*leases: str) -> GpuFacts:
    """Two slices, and who holds the locks of them."""
    slices = tuple(
        MigDevice(
            uuid=f"MIG-{letter * 8}-1",
            profile="1g.5gb",
            memory_bytes=5 * GIB,
            used_bytes=12 * MIB,
            lease=dict(enumerate(leases)).get(number),
        )
        for number, letter in enumerate("ab")
    )
    return gpu(mig=True, mig_devices=slices)


def look(
    spec: FleetSpec,
    servers: dict[str, HostFacts | None],
    *,
    held: Collection[str] = (),
    most: int | None = None,
    start: Any = lambda spot: Start(("podman", "run", spot.borrowed.uuid)),
) -> Look:
    """Places among these servers; those without facts gave no answer."""
    probe = FleetProbe(
        taken="2026-01-30T12:00:00Z",
        seconds=1.0,
        servers=tuple(answer(name, spec, facts) for name, facts in servers.items()),
    )
    placing = Placing(
        spec,
        IMAGES,
        RUN_URL,
        reach=lambda name: Host(name, ("ssh", name), spec.servers[name].folder),
        start=start,
    )
    return placing.places(probe, match_fleet(probe, IMAGES), now=NOW, held=held, most=most)


def answer(name: str, spec: FleetSpec, facts: HostFacts | None) -> ServerProbe:
    if facts is None:
        return ServerProbe(server=name, state="unreachable", reason="no route to host", seconds=1.0)
    verdicts = judge(name, spec, facts, now=NOW)
    return ServerProbe(server=name, state="ok", reason="", seconds=1.0, facts=facts, gpus=verdicts)
