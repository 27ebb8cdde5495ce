"""Make the virtual environment of a group, unless it already is what its files ask for.

    python3 -m tools.environment GROUP      .venv/GROUP, from requirements/GROUP.txt

Two stamps in the environment name what was put into it: the packages, and embedmill itself
(editable, so only a change of pyproject.toml matters). Changed packages mean a new environment,
so that nothing left over from an older list can hide a missing pin.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from tools.seeding import lock_file, seed

REPOSITORY = Path(__file__).resolve().parent.parent
OLDEST_PYTHON = (3, 11)
PACKAGES = "packages.stamp"
WITHOUT_DEPENDENCIES = {
    "demo": ["models"],
    "demo-s3": ["models"],
    "peers-infinity": ["models"],
    "peers-text": ["models"],
    "tensorflow": ["models"],
    "torch": ["models", "efficientnet-lite0"],
    "triton": ["models"],
}
"""Groups that need real models and pictures as well, whose own dependencies are not wanted."""


def main() -> None:
    if sys.version_info < OLDEST_PYTHON:
        sys.exit(f"Python {sys.version.split()[0]} is too old: make PYTHON=python3.11 (or newer)")
    if len(sys.argv) != 2:
        sys.exit("usage: python3 -m tools.environment GROUP")
    group = sys.argv[1]
    if not requirement_files(group)[0].is_file():
        sys.exit(f"no group '{group}': there is no requirements/{group}.txt")
    folder = REPOSITORY / ".venv" / group
    folder.parent.mkdir(exist_ok=True)
    with lock_file(folder).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        bring_up_to_date(folder, group)


def bring_up_to_date(folder: Path, group: str) -> None:
    packages, project = folder / PACKAGES, folder / "project.stamp"
    files = requirement_files(group)
    all_files = [*files, *included(files)]
    packages_digest = digest(all_files, f"{sys.version} {sys.base_prefix} {folder}")
    if read(packages) != packages_digest:
        create(folder)
        seed(folder, all_files, PACKAGES)
        for file in files:
            install_requirements(folder, file)
        packages.write_text(packages_digest)
    project_digest = digest([REPOSITORY / "pyproject.toml"], packages_digest)
    if read(project) != project_digest:
        say(folder, "installing embedmill from this checkout")
        pip(folder, "install", "--no-deps", "--no-build-isolation", "--editable", str(REPOSITORY))
        project.write_text(project_digest)


def requirement_files(group: str) -> list[Path]:
    names = [group, *WITHOUT_DEPENDENCIES.get(group, [])]
    return [REPOSITORY / "requirements" / f"{name}.txt" for name in names]


def included(files: list[Path]) -> list[Path]:
    """The files that these name with `-r`, and those that they name in turn."""
    found = [
        file.parent / line.split()[1]
        for file in files
        for line in file.read_text().splitlines()
        if line.startswith("-r ")
    ]
    return [*found, *included(found)] if found else []


def digest(files: list[Path], salt: str) -> str:
    state = hashlib.sha256(salt.encode())
    for file in files:
        state.update(hashlib.sha256(file.read_bytes()).digest())
    return state.hexdigest()


def read(stamp: Path) -> str:
    return stamp.read_text() if stamp.is_file() else ""


def create(folder: Path) -> None:
    say(folder, f"creating, with Python {sys.version.split()[0]}")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        venv.create(folder, with_pip=True)
    except subprocess.CalledProcessError:
        sys.exit("Python cannot make virtual environments here (Debian: apt-get install python3-venv)")


def install_requirements(folder: Path, file: Path) -> None:
    say(folder, f"installing {file.relative_to(REPOSITORY)}")
    alone = any(file.stem in names for names in WITHOUT_DEPENDENCIES.values())
    without_dependencies = ["--no-deps"] if alone else []
    pip(folder, "install", *without_dependencies, "--requirement", str(file))


def pip(folder: Path, *arguments: str) -> None:
    """Run pip, silent unless it fails: then all that it said, and its exit code."""
    quiet = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore", "PIP_NO_INPUT": "1"}
    done = subprocess.run(
        [str(folder / "bin" / "python"), "-m", "pip", *arguments],
        env={**os.environ, **quiet},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.stderr.write(done.stdout)
        sys.exit(f"pip {' '.join(arguments)}: failed, see above")


def say(folder: Path, doing: str) -> None:
    print(f"{folder.relative_to(REPOSITORY)}: {doing}", flush=True)


if __name__ == "__main__":
    main()
