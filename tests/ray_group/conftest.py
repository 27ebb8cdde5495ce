"""What the tests of this group share: root, for network namespaces; and one cluster.

A head without processors for actors and two unequal nodes: one has two processors, the other one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from tests.ray_group.loops import SMALL, Make
from tests.support.ray_cluster import NodeSetup, RayCluster, RayNode

from embedmill.engines import RayEngine
from embedmill.engines.ray import Connection, Family

NEEDED = ("ip", "unshare", "taskset")
POOL = "pool"
QUICK = {"every_s": 0.2, "grace_s": 5.0, "silent_s": 120.0, "start_s": 120.0}
"""Asks often, and is patient: what is slow here is no fault of a node."""


@pytest.fixture(scope="session")
def namespaces() -> None:
    """Skips where no node with an address of its own can be made."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    lacking = [name for name in NEEDED if shutil.which(name, path=path) is None]
    if lacking or os.geteuid() != 0:
        pytest.skip(f"no node can be made here: {', '.join(lacking) or 'not root'}")
    made = subprocess.run(["unshare", "--net", "true"], check=False)
    if made.returncode != 0:
        pytest.skip("no node can be made here: namespaces are forbidden")


@pytest.fixture(scope="session")
def cluster(namespaces: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    """Nodes `large` and `small`."""
    with RayCluster(tmp_path_factory.mktemp("ray")) as cluster:
        cluster.join(NodeSetup(cpus=2, labels={POOL: "large"}))
        cluster.join(NodeSetup(cpus=1, labels={POOL: "small"}))
        yield cluster


@pytest.fixture
def head(cluster: RayCluster) -> Iterator[RayCluster]:
    """The cluster, on whose head the test is, with all that it starts."""
    with cluster.inside():
        yield cluster


@pytest.fixture
def connection(head: RayCluster) -> Connection:
    return Connection(head.address, str(head.token_file), "tests")


@pytest.fixture
def joined(cluster: RayCluster) -> Iterator[RayNode]:
    """A node for one test, which may die in it: one processor, `pool=joined`."""
    node = cluster.join(NodeSetup(cpus=1, labels={POOL: "joined"}))
    yield node
    cluster.remove(node)


@pytest.fixture
def make(connection: Connection) -> Iterator[Make]:
    """Engines that are stopped in the end."""
    engines: list[RayEngine] = []

    def made(*families: Family, connection: Connection = connection, **settings: Any) -> RayEngine:
        found = {family.name: family for family in families or (SMALL,)}
        engines.append(RayEngine(connection, found, **{**QUICK, **settings}))
        return engines[-1]

    yield made
    for engine in engines:
        engine.stop()
