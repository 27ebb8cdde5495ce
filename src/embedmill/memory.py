"""How much memory this process may still take: whatever loads more only if it fits asks here."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")
"""A container's limit and use, in bytes (docs.kernel.org/admin-guide/cgroup-v2.html)."""


def memory_left(meminfo: Path = MEMINFO, cgroup: Path = CGROUP) -> int:
    """Bytes that the machine has available and a container's limit allows; very many where nobody says."""
    return min(_available(meminfo), _allowed(cgroup))


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
