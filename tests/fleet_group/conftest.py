"""What the tests of this group need: root, for network namespaces, and the programs of Debian's packages."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.support.fake_gpus import build_library
from tests.support.groups import take

NEEDED = ("ip", "ssh", "ssh-keygen", "sshd", "unshare")


def pytest_configure(config: pytest.Config) -> None:
    """Collect what is of fleets and needs no servers, too."""
    take(config, "fleet")


@pytest.fixture(scope="session")
def library() -> Path:
    """The fake NVML."""
    return build_library()


@pytest.fixture(scope="session")
def namespaces() -> None:
    """Skips where no server with an address of its own can be made."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    lacking = [name for name in NEEDED if shutil.which(name, path=path) is None]
    if lacking or os.geteuid() != 0:
        pytest.skip(f"no server can be made here: {', '.join(lacking) or 'not root'}")
    made = subprocess.run(["unshare", "--mount", "--net", "--uts", "--pid", "--fork", "true"], check=False)
    if made.returncode != 0:
        pytest.skip("no server can be made here: namespaces are forbidden")
