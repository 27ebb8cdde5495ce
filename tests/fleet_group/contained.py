"""A fleet whose servers start real containers of the worker image: a fixture for tests that import it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from tests.deploy_group.containers import Containers
from tests.fleet_group.borrowed import SERVERS, Fleet
from tests.fleet_group.gpu_host import HERE, podman_beside
from tests.fleet_group.test_container import containers, image
from tests.support.gpu_servers import GpuServers

from embedmill.spec.worker_images import ImageReport

__all__ = ["containers", "fleet", "image"]


@pytest.fixture
def fleet(
    tmp_path_factory: pytest.TempPathFactory,
    namespaces: None,
    library: object,
    containers: Containers,
    image: ImageReport,
) -> Iterator[Fleet]:
    """Two idle servers, and one whose GPU is somebody's."""
    folder = tmp_path_factory.mktemp("fleet")
    podman = podman_beside(containers)
    with GpuServers(folder) as servers:
        fleet = Fleet(servers, folder, os.getpid(), podman, image.image, (*HERE, "--network=host"))
        for name in SERVERS:
            fleet.start(name, busy=name == SERVERS[-1])
        fleet.write()
        yield fleet
