"""Fill a new environment with what finished ones beside it hold: the same versions, as hard links.

A dozen groups want the same hundred packages, which pip would fetch, unpack and compile for each. It removes
files before it writes others in their place, so that what it changes in one environment stays as it is in
the others.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

PIN = re.compile(r"([A-Za-z0-9._-]+)==(\S+)")
INSTALLERS = frozenset({"pip", "setuptools"})
"""A new environment has its own, which are not to be mixed with others."""


def seed(folder: Path, requirements: Iterable[Path], stamp: str) -> None:
    """Give it the pinned packages that environments with that stamp have, if their Python is the same."""
    wanted = {(name, version) for name, version in pins(requirements) if name not in INSTALLERS}
    for other in sorted(folder.parent.glob(f"*/{stamp}")):
        with held(other.parent) as free:
            if free and other.parent != folder and python(other.parent) == python(folder):
                wanted -= set(shared(other.parent, folder, wanted))


def pins(requirements: Iterable[Path]) -> Iterator[tuple[str, str]]:
    """(name, version) of each line `name==version`."""
    for file in requirements:
        for line in file.read_text().splitlines():
            if match := PIN.fullmatch(line.strip()):
                yield normal(match[1]), match[2]


def normal(name: str) -> str:
    """A package's name as it is compared (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


@contextlib.contextmanager
def held(environment: Path) -> Iterator[bool]:
    """Whether nobody makes that environment now; nobody begins to while this goes on."""
    with lock_file(environment).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def lock_file(environment: Path) -> Path:
    """What whoever makes an environment locks."""
    return environment.parent / f".{environment.name}.lock"


def python(environment: Path) -> list[str]:
    """What tells which Python an environment was made with."""
    lines = (environment / "pyvenv.cfg").read_text().splitlines()
    return [line for line in lines if not line.startswith("command")]


def shared(other: Path, folder: Path, wanted: set[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Link what is wanted, and tell it."""
    (site,) = other.glob("lib/python3*/site-packages")
    for found in distributions(path=[str(site)]):
        pin = normal(found.name), found.version
        if pin in wanted and link(found, other, folder):
            yield pin


def link(found: Distribution, other: Path, folder: Path) -> bool:
    """Link a package's files; one that has any outside of its environment, or lacks any, is left to pip."""
    files = [Path(os.path.normpath(str(file.locate()))) for file in found.files or ()]
    if not files or not all(file.is_relative_to(other) for file in files):
        return False
    if not all(file.exists() or file.suffix == ".pyc" for file in files):  # compiled files come and go
        return False
    for file in files:
        if file.is_file():
            place = folder / file.relative_to(other)
            place.parent.mkdir(parents=True, exist_ok=True)
            if not place.exists():
                link_file(file, place, (bytes(other), bytes(folder)))
    return True


def link_file(file: Path, place: Path, moved: tuple[bytes, bytes]) -> None:
    """A script names the Python of its environment, so that it is written anew."""
    if file.parent.name == "bin" and (script := file.read_bytes()).startswith(b"#!"):
        place.write_bytes(script.replace(*moved))
        shutil.copymode(file, place)
        return
    try:
        place.hardlink_to(file)
    except OSError:  # a disk without such links, or too many of them
        shutil.copy2(file, place)
