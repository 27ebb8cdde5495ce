"""`fleet up` and `fleet down` with a real Ray: idle servers join, one is wanted back in the middle of a run.

What is in the containers is a process of the server here; `test_fleet_up_containers` has real ones.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from tests.cli.terminal import run_alone
from tests.fleet_group.borrowed import SERVERS, Fleet, digest_of_a_local_run, end, live, make_pipeline
from tests.support.fake_gpus import build_library
from tests.support.fleet_cluster import FleetCluster
from tests.support.gpu_servers import GpuServers
from tests.support.killing import end_of, stock_of
from tests.support.patience import PATIENCE_S
from tests.support.stock import Stock

from embedmill.devices.locks import holder_of
from embedmill.devices.procfs import is_worker

ITEMS = 300
LEAVES_S = 60.0
"""A node gets 6 s to leave, and is killed then. How long all of it took is told: machines are shared."""


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The pid of a process whose name is `train`."""
    program = tmp_path_factory.mktemp("bin") / "train"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "3600"]) as process:
        yield process.pid
        process.kill()


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, namespaces: None, training: int) -> Iterator[Fleet]:
    """Two idle servers and a busy one."""
    build_library()
    folder = tmp_path_factory.mktemp("fleet")
    with GpuServers(folder) as servers:
        fleet = Fleet(servers, folder, training)
        for name in SERVERS:
            fleet.start(name, busy=name == SERVERS[-1])
        fleet.write(folder)
        part(fleet)
        say_ray(fleet, version("ray"))
        yield fleet


@pytest.fixture(scope="module")
def cluster(fleet: Fleet) -> Iterator[FleetCluster]:
    with FleetCluster(fleet.servers, fleet.folder) as cluster:
        yield cluster


@pytest.fixture
def pipeline(fleet: Fleet, cluster: FleetCluster, tmp_path: Path) -> Iterator[Path]:
    """One whose families are images of the fleet; no node is left behind."""
    spec = make_pipeline(fleet.folder, f"shop-{tmp_path.name[-8:]}", items=ITEMS, **settings(fleet, cluster))
    yield spec
    run_alone("fleet", "down", spec)


def settings(fleet: Fleet, cluster: FleetCluster) -> dict[str, Any]:
    ray = {
        "address": cluster.address,
        "token_file": str(cluster.token_file),
        "images": str(fleet.folder / "images.yaml"),
        "families": {"cpu": {"image": "cpu", "memory_mib": 1024}},
        "shared": [str(fleet.folder)],
    }
    return {"fleet": str(fleet.file), "ray": ray}


def say_ray(fleet: Fleet, found: str | None) -> None:
    """What images.yaml says of Ray in the image."""
    file = fleet.folder / "images.yaml"
    images = yaml.safe_load(file.read_text())
    images["images"]["cpu"]["ray"] = found
    file.write_text(yaml.safe_dump(images))


def part(fleet: Fleet) -> None:
    """Each server notes its nodes in a folder of its own, as servers with disks of their own do."""
    spec = yaml.safe_load(fleet.file.read_text())
    for name, server in spec["servers"].items():
        server["folder"] = str(fleet.folder / "locks" / name)
    (fleet.folder / "locks").mkdir()
    fleet.file.write_text(yaml.safe_dump(spec))


def working(fleet: Fleet) -> set[str]:
    """Servers on which a worker loop runs."""
    return {
        name
        for name in fleet.servers.servers
        if any(is_worker(words) for words in command_lines(fleet, name))
    }


def rays(fleet: Fleet, name: str) -> list[str]:
    """Processes of a server that are of a node: anything but its sshd and its connections."""
    lines = [" ".join(words) for words in command_lines(fleet, name)]
    return [line for line in lines if line and "sshd" not in line]


def command_lines(fleet: Fleet, name: str) -> list[list[str]]:
    """Of a server's processes, but for those that end just now."""
    found: list[list[str]] = []
    for process in fleet.processes(name):
        with contextlib.suppress(psutil.Error):
            found.append(process.cmdline())
    return found


def test_two_idle_servers_join_a_run_uses_them_and_one_that_is_wanted_back_leaves_in_time(
    fleet: Fleet, cluster: FleetCluster, pipeline: Path, record_property: Callable[[str, object], None]
) -> None:
    record_property("left_after_s", show_a_run_with_a_yield(fleet, cluster, pipeline))


def show_a_run_with_a_yield(fleet: Fleet, cluster: FleetCluster, pipeline: Path) -> float:
    """All that `fleet up` and `fleet down` promise, in the order in which somebody would see it.

    Returns after how many seconds nothing was left on the server that was wanted back.
    """
    said = run_alone("fleet", "up", pipeline, "--patience", "100", "--json")
    assert said.code == 0, said.err
    assert {(node["server"], node["state"]) for node in said.json["nodes"]} == {
        ("gpu-01", "joined"),
        ("gpu-02", "joined"),
    }
    busy = {place: why for place, why in said.json["passed_over"].items() if "not taken: busy: " in why}
    assert busy.keys() == {f"{name} #0 (Tesla T4)" for name in fleet.servers.servers if name == "gpu-03"}
    assert cluster.servers() == {"gpu-01", "gpu-02"}
    assert cluster.token_file.read_text().strip() not in "\n".join(fleet.readable())

    again = run_alone("fleet", "up", pipeline, "--json")
    assert [node["state"] for node in again.json["nodes"]] == ["there", "there"]

    with shared_stock_of(pipeline) as stock:
        running = begin(cluster, pipeline)
        stock.hand_out_until_done_by("cpu-0", "cpu-1", unless=end_of(running))
        assert working(fleet) == {"gpu-01", "gpu-02"}
        began = time.monotonic()
        fleet.turn("gpu-01", busy=True)
        while rays(fleet, "gpu-01"):
            assert time.monotonic() - began < LEAVES_S, rays(fleet, "gpu-01")
            time.sleep(0.05)
        took_s = time.monotonic() - began
        await_servers(cluster, {"gpu-02"})

    report, _ = end(running)
    servers = {share["server"] for share in report["shares"] if share["vectors"]}
    assert servers == {"gpu-01", "gpu-02"}
    assert sum(share["vectors"] for share in report["shares"]) == report["computed"] == ITEMS
    assert live(pipeline).content.content_digest == digest_of_a_local_run(fleet.folder, items=ITEMS)

    fleet.turn("gpu-01", busy=False)
    left = run_alone("fleet", "down", pipeline, "--json")
    assert (left.code, left.json["silent"]) == (0, {})
    assert [node["server"] for node in left.json["nodes"]] == ["gpu-02"]
    assert_nothing_is_left(fleet, cluster)
    return took_s


def test_who_asked_may_be_killed_and_down_finds_what_it_started(
    fleet: Fleet, cluster: FleetCluster, pipeline: Path
) -> None:
    asking = subprocess.Popen(
        cluster.embedmill("fleet", "up", pipeline), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert asking.stderr is not None
    for line in asking.stderr:
        if "starts on gpu-02" in line:
            break
    asking.send_signal(signal.SIGKILL)
    asking.communicate()
    assert rays(fleet, "gpu-02")
    left = run_alone("fleet", "down", pipeline, "--json")
    assert left.code == 0, left.err
    assert "gpu-02" in {node["server"] for node in left.json["nodes"]}
    assert_nothing_is_left(fleet, cluster)


def test_a_server_that_only_ssh_reaches_says_so(fleet: Fleet, cluster: FleetCluster, pipeline: Path) -> None:
    namespace = fleet.servers.servers["gpu-01"].namespace
    route = [cluster.address.split(":")[0], "dev", "lo"]
    subprocess.run(["ip", "-n", namespace, "route", "add", "blackhole", route[0]], check=True)
    try:
        said = run_alone("fleet", "up", pipeline, "gpu-01", "--json")
    finally:
        subprocess.run(["ip", "-n", namespace, "route", "del", "blackhole", route[0]], check=True)
    assert said.code == 1
    (node,) = said.json["nodes"]
    assert node["state"] == "failed"
    assert f"cannot reach {cluster.address}" in node["said"]
    assert_nothing_is_left(fleet, cluster)


def test_an_image_with_another_ray_is_refused_before_any_server_is_asked(
    fleet: Fleet, cluster: FleetCluster, pipeline: Path
) -> None:
    say_ray(fleet, "2.1.0")
    try:
        said = run_alone("fleet", "up", pipeline)
    finally:
        say_ray(fleet, version("ray"))
    assert said.code == 2
    assert f"image cpu has Ray 2.1.0, and the cluster has {version('ray')}" in said.err


def test_a_wrong_token_is_refused_by_the_head(fleet: Fleet, cluster: FleetCluster, tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text("x" * 64)
    given = ("--address", cluster.address, "--token-file", tmp_path / "wrong")
    said = run_alone("fleet", "up", fleet.file, *given)
    assert said.code == 1, said.err
    assert "does not take the token" in said.err


@contextlib.contextmanager
def shared_stock_of(pipeline: Path) -> Iterator[Stock]:
    """Shards that are handed out one by one, in folders that somebody else writes to as well."""
    before = os.umask(0)
    try:
        with stock_of(pipeline) as stock:
            yield stock
    finally:
        os.umask(before)


def begin(cluster: FleetCluster, pipeline: Path) -> subprocess.Popen[str]:
    """A run that goes on while the test does."""
    return subprocess.Popen(
        cluster.embedmill("run", pipeline, "--engine", "ray", "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        umask=0,  # who works in a container writes to the same folders as somebody else
    )


def assert_nothing_is_left(fleet: Fleet, cluster: FleetCluster) -> None:
    for name in ("gpu-01", "gpu-02"):
        assert not rays(fleet, name)
        assert holder_of(str(fleet.folder / "locks" / name), f"GPU-{name}") is None
    await_servers(cluster, set())


def await_servers(cluster: FleetCluster, names: set[str]) -> None:
    """A head hears some time later of nodes that left."""
    deadline_s = time.monotonic() + PATIENCE_S
    while (found := cluster.servers()) != names:
        assert time.monotonic() < deadline_s, found
