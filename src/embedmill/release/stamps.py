"""Stamps in this machine's cache: what files looked like when they were hashed."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import time
from typing import TYPE_CHECKING, Any

from embedmill.errors import StoreError
from embedmill.spec.document import sha256
from embedmill.store import LocalPaths, cache_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from embedmill.model import ModelPackage
    from embedmill.release.layout import Home
    from embedmill.spec.documents import FileEntry

TRUSTED_S = 3600.0
"""So long a frozen shard is taken for what was hashed: it is still in memory then. Disks forget later."""
STAMPED_BYTES = 2 << 20
"""Smaller shards have no stamp: SHA-256 takes 1.5 ms at most for them, and only one that fits saves it."""


def stamp_file(of: str) -> Path:
    """Where the stamp of this is kept."""
    return cache_folder() / "stamps" / f"{sha256(of.encode())}.json"


def read_stamp(file: Path) -> dict[str, Any]:
    """What a stamp says; empty where there is none."""
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_stamp(file: Path, stamp: object) -> None:
    """Keep a stamp; a cache that cannot be written only makes what would look at it slow."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".part")
        partial.write_text(json.dumps(stamp))
        partial.rename(file)
    except OSError:
        return


def note_digested(package: ModelPackage) -> None:
    """Stamp a package that was digested, as it looks now and looked then."""
    if package.is_as_digested():
        stamp = {"digest": package.package_digest(), "files": _files_of(package)}
        write_stamp(_of_package(package), stamp)


def digest_noted(package: ModelPackage) -> str | None:
    """The digest that its stamp tells, if the package looks so: for guesses, not for what a release says."""
    stamp = read_stamp(_of_package(package))
    return stamp.get("digest") if stamp and stamp.get("files") == _files_of(package) else None


def note_frozen(home: Home, shards: Iterable[tuple[FileEntry, Path]]) -> None:
    """Stamp frozen shards of which a local store has just made objects: each with the file that was hashed.

    Only what is that very file, by another name, is stamped: a copy may be damaged on its way. There is one
    stamp for each pipeline, of its newest plan; it has those of STAMPED_BYTES or more.
    """
    if not isinstance(home.store, LocalPaths):
        return
    seen: dict[str, list[int | str]] = {}
    for entry, hashed in shards:
        if entry.size_bytes < STAMPED_BYTES:
            continue
        with contextlib.suppress(OSError, StoreError):
            stored = home.store.path(home.key(entry.path)).stat()
            if os.path.samestat(stored, hashed.stat()):
                seen[entry.path] = _looks(stored, entry)
    write_stamp(_of_frozen(home), seen)


def frozen_file(home: Home, entry: FileEntry) -> Path:
    """A local file of a frozen shard: as its stamp says, if that is young, or else its bytes are checked.

    Raises:
        ReleaseCorrupt: It is missing, or its bytes are others.
    """
    return _stamped(home, entry) or home.verified(home.key(entry.path), entry)


def _stamped(home: Home, entry: FileEntry) -> Path | None:
    if entry.size_bytes < STAMPED_BYTES or not isinstance(home.store, LocalPaths):
        return None
    try:
        file = home.store.path(home.key(entry.path))
        stat = file.stat()
    except (OSError, StoreError):
        return None
    young = 0 <= time.time_ns() - stat.st_mtime_ns < TRUSTED_S * 1e9  # the store set it when it was stamped
    known = young and _newest(_of_frozen(home)).get(entry.path) == _looks(stat, entry)
    return file if known else None


def _newest(file: Path) -> Mapping[str, Any]:
    """What the stamp says, parsed once while it is the same file: it has a line for each of many shards."""
    try:
        stat = file.stat()
    except OSError:
        return {}
    return _parsed(file, stat.st_mtime_ns, stat.st_ino, stat.st_size)


@functools.lru_cache(maxsize=1)
def _parsed(file: Path, *looks: int) -> Mapping[str, Any]:  # noqa: ARG001 - they tell one file from the next
    return read_stamp(file)


def _looks(stat: os.stat_result, entry: FileEntry) -> list[int | str]:
    return [stat.st_size, stat.st_mtime_ns, stat.st_ino, entry.sha256]


def _files_of(package: ModelPackage) -> list[list[Any]]:
    return [list(each) for each in package.stamps()]


def _of_package(package: ModelPackage) -> Path:
    return stamp_file(f"{package.root.absolute()}\0package")


def _of_frozen(home: Home) -> Path:
    return stamp_file(f"{home.url}\0frozen")
