"""What the tests of this group need: root, for network namespaces, and the programs of Debian's packages."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.fake_gpus import build_library
from tests.support.groups import take
from tests.support.patience import until

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


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A control group that is named as those of containers are."""
    top = Path("/sys/fs/cgroup")  # of version 2; of version 1 there is one for each controller
    folder = (top if (top / "cgroup.procs").exists() else top / "pids") / f"libpod-{os.urandom(32).hex()}"
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("no control group can be made here: not root")
    yield folder
    until(lambda: not (folder / "cgroup.procs").read_text(), "processes in a control group")
    folder.rmdir()
