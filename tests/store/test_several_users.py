"""A folder as a store of two users: it works by group and umask, and else the error says what is lacking."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ONE, OTHER, GROUP = 1001, 1002, 2000
WRITE = """
import os
import sys
from embedmill.errors import EmbedmillError
from embedmill.store import copy
from embedmill.store.local import LocalStore
store, user, group = LocalStore(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
os.umask(int(sys.argv[4], 8))
os.setgroups([group])
os.setresgid(user, user, user)
os.setresuid(user, user, user)
try:
    store.put("shared", str(user).encode())
    store.put_if_absent(f"{user}/own", b"1")
    copy(store, f"{sys.argv[5]}/own", f"{user}/copied")
except EmbedmillError as error:
    print(error.code, error, sep=": ")
"""
pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="not root: nobody can be another user")


@pytest.fixture
def store() -> Iterator[Path]:
    """A folder of one user that others may enter, unlike pytest's."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        place = Path(folder, "store")
        place.mkdir()
        os.chown(place, ONE, GROUP)
        yield place


def said_by(user: int, store: Path, umask: str) -> str:
    """What this user is told who writes objects, and copies one that the first user wrote."""
    command = [sys.executable, "-c", WRITE, str(store), str(user), str(GROUP), umask, str(ONE)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout


def test_users_of_one_group_with_umask_002_share_a_store(store: Path) -> None:
    store.chmod(0o2775)
    assert [said_by(user, store, "002") for user in (ONE, OTHER)] == ["", ""]
    assert (store / str(OTHER) / "copied").read_bytes() == b"1"


def test_who_may_not_write_to_what_another_user_made_is_told_what_a_shared_store_needs(store: Path) -> None:
    store.chmod(0o777)
    assert said_by(ONE, store, "022") == ""
    said = said_by(OTHER, store, "022")
    assert said.startswith(f"StoreDenied: {store}/.tmp/")
    assert "must be writable for this user; it is another user's" in said
    assert "umask 002" in said
    assert "2775" in said
