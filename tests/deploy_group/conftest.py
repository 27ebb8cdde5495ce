"""What the tests of this group share."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.plans import a_plan

from embedmill.deploy.kubernetes import deploy_serving


@pytest.fixture(scope="session")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Manifests of release 12, and of a switch to it from release 9."""
    folder = tmp_path_factory.mktemp("deploy") / "manifests"
    deploy_serving(folder, a_plan(12), a_plan(9))
    return folder
