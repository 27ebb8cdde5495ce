"""Debian packages that a group's tests start as real servers: installed by root, else named.

    python3 tools/debian.py GROUP      the packages of requirements/GROUP.debian.txt, if there is such a file

Without them the tests say what they lack and are skipped; with CI=true that fails.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
LOCK = REPOSITORY / ".venv" / ".debian.lock"
"""Two groups that want packages at once wait for each other."""


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python3 tools/debian.py GROUP")
    lacking = [name for name in wanted(sys.argv[1]) if not is_installed(name)]
    if not lacking:
        return
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *lacking]
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        print(f"not installed: {', '.join(lacking)}; its tests are skipped (as root: {' '.join(command)})")
        return
    print(f"installing {', '.join(lacking)}", flush=True)
    LOCK.parent.mkdir(exist_ok=True)
    with LOCK.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        failed = install(command)
    if failed:
        sys.exit(failed)


def install(command: list[str]) -> str:
    """A new machine has no lists of packages, or old ones. "" if all went well, else all that was said."""
    if apt_get(command):
        return apt_get(["apt-get", "update"]) or apt_get(command)
    return ""


def apt_get(command: list[str]) -> str:
    """Run it: "" if all went well, else all that it said."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return f"{done.stdout}\n{' '.join(command)}: failed" if done.returncode else ""


def wanted(group: str) -> list[str]:
    """The packages that the group names."""
    file = REPOSITORY / "requirements" / f"{group}.debian.txt"
    lines = file.read_text().splitlines() if file.is_file() else []
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def is_installed(package: str) -> bool:
    """Whether dpkg has it unpacked and configured."""
    if shutil.which("dpkg-query") is None:
        return False
    asked = ["dpkg-query", "--show", "--showformat=${db:Status-Status}", package]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout == "installed"


if __name__ == "__main__":
    main()
