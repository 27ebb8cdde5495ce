"""How long to wait before a request is sent again, and when to give up."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

FIRST_WAIT_S, LONGEST_WAIT_S = 0.25, 8.0


@dataclass
class Patience:
    """Waits as the server asks for, else twice as long each time; no try begins after `for_s`."""

    for_s: float
    clock: Callable[[], float] = time.monotonic
    _next_s: float = FIRST_WAIT_S
    _random: random.Random = field(default_factory=random.Random)

    def __post_init__(self) -> None:
        self._end = self.clock() + self.for_s

    def wait_s(self, asked_s: float | None) -> float | None:
        """How long to wait now; None: give up. `asked_s` is what the server said."""
        own = self._next_s * self._random.uniform(0.5, 1.0)
        self._next_s = min(2 * self._next_s, LONGEST_WAIT_S)
        wait = own if asked_s is None else max(float(asked_s), own)
        return None if self.clock() + wait > self._end else wait
