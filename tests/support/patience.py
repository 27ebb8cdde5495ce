"""How long tests wait for what may never come: who fails waits to the end, and machines are slow."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent import futures

PATIENCE_S = 240.0
PAUSE_S = 0.02


def until(holds: Callable[[], object], what: str = "what is waited for") -> float:
    """Look again and again until something holds, which `what` says in words; the seconds that it took.

    Raises:
        AssertionError: It does not within `PATIENCE_S`.
    """
    began_s = time.monotonic()
    while not holds():
        assert time.monotonic() - began_s < PATIENCE_S, f"not within {PATIENCE_S:.0f} s: {what}"
        time.sleep(PAUSE_S)
    return time.monotonic() - began_s


def waits_for_futures(thread: threading.Thread) -> bool:
    """Whether a thread is inside `concurrent.futures.wait` now."""
    frame = sys._current_frames().get(thread.ident or 0)
    return frame is not None and any(
        each.f_code is futures.wait.__code__ for each, _ in traceback.walk_stack(frame)
    )
