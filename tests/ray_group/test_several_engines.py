"""Three engines at once: this machine, a Ray cluster, a Jenkins' agents; and a driver that is killed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.contracts.controller_suite import ControllerSuite
from tests.contracts.mixed_suite import MixedRunSuite
from tests.jenkins_group.conftest import groovy
from tests.jenkins_group.controller import LABEL, WorkerJob
from tests.support.mill import Mill
from tests.support.ray_cluster import RayCluster

__all__ = ["groovy"]


def ray_section(head: RayCluster, mill: Mill, *families: str) -> dict[str, Any]:
    """What pipeline.yaml says of the cluster: a worker a node."""
    return {
        "address": head.address,
        "token_file": str(head.token_file),
        "shared": [str(mill.root)],
        "families": {each: {"labels": {"pool": each}, "memory_mib": 512} for each in families},
    }


class TestLocalRayAndJenkins(MixedRunSuite):
    @pytest.fixture
    def settings(self, mill: Mill, head: RayCluster, groovy: dict[str, str]) -> Iterator[dict[str, Any]]:
        mill.open()
        with WorkerJob.deployed(mill.root / "jenkins", mill.root / "pipeline.yaml", groovy) as job:
            yield {
                "engine": ["local", "ray", "jenkins"],
                "ray": ray_section(head, mill, "small"),
                "jenkins": job.section(mill.root),
            }

    @pytest.fixture
    def workers(self) -> set[str]:
        return {"local-0", "small-0", f"jenkins-{LABEL}-0"}


class TestControllerOfActors(ControllerSuite):
    @pytest.fixture
    def settings(self, mill: Mill, head: RayCluster) -> dict[str, Any]:
        return {"engine": "ray", "ray": ray_section(head, mill, "large", "small")}
