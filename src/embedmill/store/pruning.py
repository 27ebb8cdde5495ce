"""Keeps this machine's cache of remote stores near a size: the objects used longest ago go first.

Only what nobody can miss goes: files that no folder of a release or candidate has a link to, and that nobody
asked for within a day. Who has one open keeps it. When a file was last asked for is its access time; its
time of change is left alone, because stamps of releases hold it.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import defaultdict
from typing import TYPE_CHECKING

from embedmill.errors import SpecError

if TYPE_CHECKING:
    from pathlib import Path

LIMIT = "EMBEDMILL_CACHE_BYTES"
DEFAULT_BYTES = 20 * 2**30
SPARED_S = 86_400.0
"""So long a file stays after it was last asked for: whoever did may not have opened it yet."""
EVERY_S = 60.0
"""All of the cache is looked at, so not for every file that comes."""


def note_use(file: Path) -> bool:
    """Note that a file is asked for; whether it is there."""
    try:
        os.utime(file, ns=(time.time_ns(), file.stat().st_mtime_ns))
    except FileNotFoundError:
        return False
    except OSError:  # another user's
        return file.is_file()
    return True


def prune(cache: Path, now: float | None = None) -> None:
    """Bring the cache below its limit, if nobody tried a moment ago; any number of processes may, at once.

    Raises:
        SpecError: EMBEDMILL_CACHE_BYTES is no number.
    """
    limit, now = _limit(), time.time() if now is None else now
    marker = cache / "pruned"
    with contextlib.suppress(OSError):
        if now - marker.stat().st_mtime < EVERY_S:
            return
    with contextlib.suppress(OSError):
        marker.touch()
        os.utime(marker, (now, now))
        _prune(cache, limit, now - SPARED_S)


def _limit() -> int:
    said = os.environ.get(LIMIT, str(DEFAULT_BYTES))
    if not said.isdecimal():
        raise SpecError(
            f"{LIMIT}={said}: expected a number of bytes", hint=f"{DEFAULT_BYTES} if it is not set"
        )
    return int(said)


def _prune(cache: Path, limit: int, before: float) -> None:
    names: dict[int, list[Path]] = defaultdict(list)
    found: dict[int, os.stat_result] = {}
    for folder in ("objects", "contents"):
        for file in (cache / folder).glob("*/*"):
            with contextlib.suppress(FileNotFoundError):
                stat = file.stat()
                names[stat.st_ino].append(file)
                found[stat.st_ino] = stat
    total = sum(stat.st_size for stat in found.values())
    for node in sorted(found, key=lambda node: found[node].st_atime):
        if total <= limit or found[node].st_atime > before:
            return
        if found[node].st_nlink <= len(names[node]) and _remove(names[node], before):
            total -= found[node].st_size


def _remove(names: list[Path], before: float) -> bool:
    """Remove a file by all its names, unless somebody has asked for it since it was looked at."""
    with contextlib.suppress(OSError):
        if names[0].stat().st_atime > before or names[0].stat().st_nlink > len(names):
            return False
    for name in names:
        name.unlink(missing_ok=True)
    return True
