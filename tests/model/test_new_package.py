"""A package is made beside its target; what a killed import left there is removed by the next one."""

from __future__ import annotations

import fcntl
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.nfs import like_nfs

from embedmill.errors import ModelError
from embedmill.model.new_package import LOCK, new_package, this_host

MAKE_ONE = """
import sys
from pathlib import Path
from embedmill.model.new_package import new_package
with new_package(Path(sys.argv[1])) as folder:
    (folder / "weights").write_text("large")
    print(folder.parent, flush=True)
    input()
"""


def maker(target: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process that makes a package until it is told to end, and the folder that it works in."""
    command = [sys.executable, "-c", MAKE_ONE, str(target)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    return process, Path(process.stdout.readline().strip())


def killed(target: Path) -> Path:
    """What an import leaves that is killed."""
    process, left = maker(target)
    process.kill()
    process.communicate()
    assert (left / target.name / "weights").exists()
    return left


def made(target: Path) -> None:
    with new_package(target) as folder:
        (folder / "model.yaml").write_text("name: made")


def test_what_a_killed_import_left_is_removed_by_the_next_one_beside_it(tmp_path: Path) -> None:
    killed(tmp_path / "shop.v1")
    made(tmp_path / "other")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["model.yaml"], "the lock stays behind"


def test_an_import_at_work_is_left_alone(tmp_path: Path) -> None:
    process, theirs = maker(tmp_path / "slow")
    made(tmp_path / "fast")
    assert (theirs / "slow" / "weights").exists()
    process.communicate("\n")
    assert (tmp_path / "slow" / "weights").read_text() == "large"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fast", "slow"]


def test_what_an_import_of_another_host_left_is_left_alone(tmp_path: Path) -> None:
    """On some shared disks its lock looks free from here, whether it is at work or not."""
    theirs = killed(tmp_path / "shop")
    (theirs / LOCK).write_text("another-host")
    made(tmp_path / "other")
    assert (theirs / "shop" / "weights").exists()


def test_hosts_of_one_name_are_told_apart_by_their_machines(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text(f"{name}\n")
    (tmp_path / "empty").touch()
    one, two = this_host(tmp_path / "one"), this_host(tmp_path / "two")
    assert one != two
    assert one == this_host(tmp_path / "one")
    plain = socket.gethostname().encode()
    assert this_host(tmp_path / "none") == this_host(tmp_path / "empty") == plain


def test_a_package_is_made_though_a_file_beside_it_cannot_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    like_nfs(monkeypatch)
    with new_package(tmp_path / "package") as folder:
        (folder / "model.yaml").write_text("name: made")
        held = (folder.parent / "open").open("w")
    assert (tmp_path / "package" / "model.yaml").exists()
    held.close()


def test_folders_of_others_are_left_alone(tmp_path: Path) -> None:
    names = [".shop.abcdefgh", ".cache", "shop.abcdefgh"]
    for name in names:
        (tmp_path / name).mkdir()
    (tmp_path / ".shop.abcdefgh" / ".lock").touch()
    made(tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names, "other"])


def test_a_disk_without_locks_is_as_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refused)
    made(tmp_path / "package")
    assert [path.name for path in tmp_path.iterdir()] == ["package"]


def test_a_target_that_another_import_made_meanwhile_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "package"

    def import_twice() -> None:
        with new_package(target) as slower:
            (slower / "model.yaml").write_text("slower")
            target.mkdir()
            (target / "model.yaml").write_text("faster")

    with pytest.raises(ModelError, match="package: exists already"):
        import_twice()
    assert (target / "model.yaml").read_text() == "faster"
    assert [path.name for path in tmp_path.iterdir()] == ["package"]
