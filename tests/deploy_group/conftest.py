"""What the tests of this group share."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.deploy_group.containers import NEEDED, Containers
from tests.support.plans import a_plan

from embedmill.deploy.kubernetes import deploy_serving


@pytest.fixture(scope="session")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Manifests of release 12, and of a switch to it from release 9."""
    folder = tmp_path_factory.mktemp("deploy") / "manifests"
    deploy_serving(folder, a_plan(12), a_plan(9))
    return folder


@pytest.fixture
def containers(tmp_path: Path) -> Iterator[Containers]:
    """Skips where nothing can be built."""
    lacking = [name for name in NEEDED if shutil.which(name) is None]
    if lacking or os.geteuid() != 0:
        pytest.skip(f"no image can be built here: {', '.join(lacking) or 'not root'}")
    with tempfile.TemporaryDirectory(prefix="run-") as short:  # podman takes 50 characters at most
        made = Containers(tmp_path / "containers", Path(short))
        made.folder.mkdir()
        yield made
        made.remove()
