"""What the tests of this group need: root, for network namespaces, and the program `ip`."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

NEEDED = ("ip", "unshare")


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
