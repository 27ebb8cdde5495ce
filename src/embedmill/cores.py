"""How many cores this process may use: whatever starts processes or threads for them asks here."""

from __future__ import annotations

import os
import sys
from pathlib import Path

MOST = 8
"""Beyond so many, what feeds them is the bottleneck, and each takes memory."""

EVERY = sys.maxsize
"""For worker loops: each core is worth one."""

CPU_MAX = Path("/sys/fs/cgroup/cpu.max")
"""A container's quota and the period that it is of, in µs (docs.kernel.org/admin-guide/cgroup-v2.html)."""


def cores(most: int = MOST, cpu_max: Path = CPU_MAX) -> int:
    """Those that the scheduler allows and a container's quota pays for, in whole; 1 to `most`."""
    return max(1, min(most, len(os.sched_getaffinity(0)), _paid(cpu_max, most)))


def cores_at_once(shards: int, workers: int | None, lanes: int, every: int | None = None) -> int:
    """How many of `every` core, by default of this machine, embed at a time: a loop's lanes share one shard.

    `lanes`: the most of one loop; loops have about as many each (`LocalPlaces`). `workers` have one each.
    """
    if workers:
        return min(workers, shards)
    every = every or cores(EVERY)
    loops = -(-every // lanes)
    return min(every, shards * -(-every // loops))


def _paid(cpu_max: Path, most: int) -> int:
    """Of a quota; `most` where there is none, or none can be read."""
    try:
        quota, period = cpu_max.read_text().split()
        return int(quota) // int(period)
    except (OSError, ValueError, ZeroDivisionError):  # `max` is no number
        return most
