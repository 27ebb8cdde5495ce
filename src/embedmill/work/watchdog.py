"""Gives a worker's GPUs back within seconds, when somebody else comes to them.

look every second ─▶ twice a stranger ─▶ the loop stops after its batch ─▶ exit code 75
                                         └─ it does not, for HANG_S ─────▶ the process is ended, with 75

Only the end of the process frees a GPU's memory. A shard that was in hand is left to others at once: its
lease is released, and nothing of it is named anywhere.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from embedmill.devices.lookout import Lookout
from embedmill.devices.processes import ours
from embedmill.devices.procfs import namespaced
from embedmill.devices.watch import MIB, Limits
from embedmill.errors import Yielded
from embedmill.spec.runtimes import lowest_limit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedmill.spec import RuntimeSpec

HANG_S = 5.0
"""How long a loop may take to stop: it may be loading a model, or in a kernel that hangs."""
OVER_CONTEXT_MIB = 1024
"""What CUDA and its libraries take beside the memory that a runtime was limited to."""


class Watchdog:
    """Looks at GPUs, by UUID, inside its block; at none it never has a reason, and needs no driver."""

    def __init__(self, gpus: Sequence[str]) -> None:
        """Look at nothing yet."""
        limits = Limits(pids_tell=not namespaced())
        self._lookout = Lookout(gpus, limits, ours(os.getpid())) if gpus else None

    def __enter__(self) -> Watchdog:
        if self._lookout is not None:
            self._lookout.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._lookout is not None:
            self._lookout.stop()

    def reason(self) -> str:
        """Why the GPUs are wanted back, in words, or nothing."""
        return self._lookout.reason if self._lookout is not None else ""

    def know_limits(self, runtimes: Sequence[RuntimeSpec], gpu_memory_mib: int | None = None) -> None:
        """What one of these takes at most, where all are limited: in a container only memory tells."""
        limits = [lowest_limit(getattr(each, "memory_limit_mib", None), gpu_memory_mib) for each in runtimes]
        known = [limit for limit in limits if limit is not None]
        if self._lookout is not None and known and len(known) == len(limits):
            self._lookout.know_own((max(known) + OVER_CONTEXT_MIB) * MIB)


def end_now(words: str) -> None:
    """End this process as one that yielded, whatever its other threads are in."""
    sys.stderr.write(f"{words}; it did not stop in {HANG_S:.0f} s\n")
    sys.stderr.flush()
    os._exit(Yielded.exit_code)
