"""Stragglers: shards that others still work on when an idle loop has waited for long enough.

Their holders are alive: their leases beat, so they do not expire. But one slow or frozen device would hold up
the end of a run, so whoever is idle works on its shard, too; the commit record decides whose attempt counts.
An idea of "MapReduce: Simplified Data Processing on Large Clusters" (OSDI 2004), section 3.6: backup tasks.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedmill.world import World

WAIT_S = 60.0
WAIT_SHARDS = 3.0
"""An idle loop waits for so long, and at least for the time of so many shards of its own."""


@dataclass
class Patience:
    """How long an idle loop leaves shards to those that have them."""

    world: World
    wait_s: float = WAIT_S
    _worked_s: float = 0.0
    _shards: int = 0
    _idle_since_s: float | None = None

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Measure the time of a shard; whoever works is not idle."""
        began_s = self.world.monotonic()
        self._idle_since_s = None
        yield
        self._worked_s += self.world.monotonic() - began_s
        self._shards += 1

    def is_over(self) -> bool:
        """Whether it has been idle for too long; idle begins when it is asked."""
        now_s = self.world.monotonic()
        if self._idle_since_s is None:
            self._idle_since_s = now_s
        mean_s = self._worked_s / self._shards if self._shards else 0.0
        return now_s - self._idle_since_s >= max(self.wait_s, WAIT_SHARDS * mean_s)
