"""What the kernel says of memory: how much is left, and how many processes it ended for lack of it."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")
"""A container's limit and use, in bytes (docs.kernel.org/admin-guide/cgroup-v2.html)."""
SPARE_BYTES = 256 * 2**20
"""Memory that no further session takes: it is others' who are at work, or about to be."""
KILLS = (CGROUP / "memory.events", Path("/proc/vmstat"))
"""What counts processes that the kernel ended for lack of memory (`oom_kill`): of a container, or of all."""


def memory_left(meminfo: Path = MEMINFO, cgroup: Path = CGROUP) -> int:
    """Bytes that the machine has available and a container's limit allows; very many where nobody says."""
    return min(_available(meminfo), _allowed(cgroup))


def memory_kills(files: Sequence[Path] = KILLS) -> int:
    """How many processes the kernel ended for lack of memory by now; 0 where nothing counts them."""
    for file in files:
        with contextlib.suppress(OSError, ValueError, KeyError):
            return _fields(file)["oom_kill"]
    return 0


def _available(meminfo: Path) -> int:
    with contextlib.suppress(OSError, ValueError, KeyError):
        return _fields(meminfo)["MemAvailable:"] * 1024
    return sys.maxsize


def _allowed(cgroup: Path) -> int:
    """Files in the page cache count as used there, but are given up first."""
    with contextlib.suppress(OSError, ValueError, KeyError):  # `max` is no number
        most, used = (int((cgroup / name).read_text()) for name in ("memory.max", "memory.current"))
        return max(0, most - used + _fields(cgroup / "memory.stat")["inactive_file"])
    return sys.maxsize


def _fields(file: Path) -> dict[str, int]:
    lines = (line.split() for line in file.read_text().splitlines())
    return {name: int(value) for name, value, *_ in lines}
