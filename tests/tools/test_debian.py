"""Debian packages of a group: named where they cannot be installed, and nothing where none are wanted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tools.debian import REPOSITORY, is_installed, wanted


def run(*arguments: str, path: str) -> subprocess.CompletedProcess[str]:
    script = [sys.executable, str(REPOSITORY / "tools" / "debian.py"), *arguments]
    return subprocess.run(script, capture_output=True, text=True, env={"PATH": path}, check=False)


def test_the_packages_are_those_of_the_groups_file() -> None:
    assert wanted("sql") == ["postgresql"]
    assert wanted("core") == []


def test_where_nothing_can_be_installed_what_lacks_is_named(tmp_path: Path) -> None:
    done = run("sql", path=str(tmp_path))
    assert done.returncode == 0
    assert done.stdout.startswith(
        "not installed: postgresql; its tests are skipped (as root: apt-get install"
    )


def test_a_group_without_packages_says_nothing(tmp_path: Path) -> None:
    done = run("core", path=str(tmp_path))
    assert (done.returncode, done.stdout) == (0, "")


def test_a_package_that_does_not_exist_is_not_installed() -> None:
    assert not is_installed("embedmill-no-such-package")


@pytest.mark.parametrize("arguments", [(), ("sql", "core")])
def test_it_takes_one_group(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert run(*arguments, path=str(tmp_path)).returncode == 1
