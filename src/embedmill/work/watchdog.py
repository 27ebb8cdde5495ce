"""Gives a worker's GPUs back within seconds, when somebody else comes to them.

look every second ─▶ twice a stranger ─▶ the loop stops after its batch ─▶ exit code 75
                                         └─ it does not, for HANG_S ─────▶ the process is ended, with 75

Only the end of the process frees a GPU's memory. A shard that was in hand is left to others at once: its
lease is released, and nothing of it is named anywhere.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from embedmill.devices.lookout import Lookout
from embedmill.devices.processes import ours
from embedmill.devices.procfs import namespaced
from embedmill.devices.watch import MIB, Limits
from embedmill.errors import Yielded

HANG_S = 5.0
"""How long a loop may take to stop: it may be loading a model, or in a kernel that hangs."""
OVER_CONTEXT_MIB = 1024
"""What CUDA and its libraries take beside the memory that a runtime was limited to."""


@contextmanager
def watching(gpus: Sequence[str], memory_mib: int | None) -> Iterator[Callable[[], str]]:
    """Look at GPUs, by UUID, inside the block; gives what says why they are wanted back, or nothing.

    `memory_mib` is the most that this process takes of each: in a container only memory tells who is there.
    """
    if not gpus:
        yield str
        return
    own_bytes = None if memory_mib is None else (memory_mib + OVER_CONTEXT_MIB) * MIB
    limits = Limits(pids_tell=not namespaced(), own_bytes=own_bytes)
    lookout = Lookout(gpus, limits, ours(os.getpid()))
    lookout.start()
    try:
        yield lambda: lookout.reason
    finally:
        lookout.stop()


def end_now(words: str) -> None:
    """End this process as one that yielded, whatever its other threads are in."""
    sys.stderr.write(f"{words}; it did not stop in {HANG_S:.0f} s\n")
    sys.stderr.flush()
    os._exit(Yielded.exit_code)
