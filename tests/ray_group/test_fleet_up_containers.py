"""Two idle servers join a real Ray in real containers of an image that `images build` made."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from importlib.metadata import version

import pytest
from tests.deploy_group.containers import Containers
from tests.fleet_group.borrowed import Fleet, make_pipeline
from tests.fleet_group.gpu_host import HERE, podman_beside
from tests.fleet_group.test_container import containers
from tests.fleet_group.worker_image import build_worker_image
from tests.ray_group.test_fleet_up import ITEMS, part, say_ray, settings, show_a_run_with_a_yield, training
from tests.support.fake_gpus import build_library
from tests.support.fleet_cluster import FleetCluster
from tests.support.gpu_servers import GpuServers

from embedmill.spec.worker_images import ImageReport

__all__ = ["containers", "training"]


@pytest.fixture(scope="module")
def image(containers: Containers, tmp_path_factory: pytest.TempPathFactory) -> ImageReport:
    return build_worker_image(containers, tmp_path_factory.mktemp("build"), version("ray"))


@pytest.fixture
def fleet(
    tmp_path_factory: pytest.TempPathFactory,
    namespaces: None,
    training: int,
    containers: Containers,
    image: ImageReport,
) -> Iterator[Fleet]:
    build_library()
    folder = tmp_path_factory.mktemp("fleet")
    folder.chmod(0o777)
    with GpuServers(folder) as servers:
        fleet = Fleet(servers, folder, training, podman_beside(containers), image.image, HERE)
        for name in ("gpu-01", "gpu-02"):
            fleet.start(name)
        fleet.write(folder)
        part(fleet)
        say_ray(fleet, image.entry.ray)
        yield fleet


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_containers_of_two_servers_are_nodes_and_one_leaves_in_time(
    fleet: Fleet, containers: Containers, record_property: Callable[[str, object], None]
) -> None:
    with FleetCluster(fleet.servers, fleet.folder) as cluster:
        spec = make_pipeline(fleet.folder, "shop", items=ITEMS, **settings(fleet, cluster))
        record_property("left_after_s", show_a_run_with_a_yield(fleet, cluster, spec))
    assert not names_of_containers(fleet, "gpu-01")


def names_of_containers(fleet: Fleet, server: str) -> str:
    podman = fleet.folder / server / "bin" / "podman"
    listed = [str(podman), "ps", "--all", "--format", "{{.Names}}"]
    done = subprocess.run(listed, capture_output=True, text=True, check=True)
    return str(done.stdout)
