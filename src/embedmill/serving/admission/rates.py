"""How many requests a minute one caller may send: a bucket of tokens for each."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

CALLERS = 10_000
"""Buckets that are kept; who asked the longest ago begins with a full one again."""
BURST_SHARE = 1 / 6
"""How much of a minute's requests may come at once."""


class Rates:
    """Token buckets by caller; used in one thread."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Allow so many a minute, and a sixth of them at once."""
        self._each_s = 60.0 / per_minute
        self._burst = max(1.0, per_minute * BURST_SHARE)
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, caller: str) -> int:
        """0 where the request may pass, which takes a token; else seconds until there is one."""
        now = self._clock()
        tokens, filled = self._buckets.pop(caller, (self._burst, now))
        tokens = min(self._burst, tokens + (now - filled) / self._each_s)
        passes = tokens >= 1.0
        self._buckets[caller] = (tokens - passes, now)
        if len(self._buckets) > CALLERS:
            self._buckets.popitem(last=False)
        return 0 if passes else max(1, math.ceil((1.0 - tokens) * self._each_s))
