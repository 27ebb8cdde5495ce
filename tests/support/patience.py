"""How long tests wait for what may never come: who fails waits to the end, and machines are slow."""

from __future__ import annotations

import time
from collections.abc import Callable

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
