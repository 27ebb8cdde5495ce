"""How long a batch takes, learned from batches; and how long a request may wait before it is refused.

A batch of `b` rows takes about `a + c * b` seconds. On a CPU `a` is small and batches gain nothing; on a GPU
`c` is. What is usual at 70 % of what a lane can do follows from the two, and so does what is too much.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from embedmill.spec import ServingSpec

FIRST_GUESS_S = 0.001
"""Seconds a row, until a batch was measured."""
KEPT = 0.98
"""How much of what was learned is left after another batch."""
DOUBT = 0.5
"""Square rows: how far batches must differ in size before their fixed cost is believed."""
WORTH = 1.05
"""A larger batch pays as long as a row costs more than this many times what it does in the largest."""
TRIED = 4
"""Batches may have 1, 2, 3, 4 rows in turn, even if one is best: else nobody would learn what more cost."""
LONGEST = 8.0
"""A batch counts for so many times what was expected at most: one that hung says nothing of the next."""
USUAL_LOAD = 0.7
BURST_S = 0.1
"""Who was idle so recently is not overloaded: requests that come at once may wait this long."""
TAIL = 2.5
"""Requests that one in ten has before it, at 70 % of Poisson arrivals served one by one (M/D/1)."""


@dataclass
class Pace:
    """Moving averages over batches; one lane's, under that lane's lock."""

    batch_rows: int
    _weight: float = 0.0
    _rows: float = 1.0
    _seconds: float = FIRST_GUESS_S
    _square: float = 1.0
    _product: float = FIRST_GUESS_S
    _request_rows: float = 1.0
    _batches: int = 0

    def batch_done(self, rows: int, seconds: float) -> None:
        """Learn from a batch."""
        if self._weight > 1.0:
            seconds = min(seconds, LONGEST * max(self.batch_s(rows), FIRST_GUESS_S))
        self._batches += 1
        self._weight = KEPT * self._weight + 1.0
        share = 1.0 / self._weight
        self._rows += share * (rows - self._rows)
        self._seconds += share * (seconds - self._seconds)
        self._square += share * (rows * rows - self._square)
        self._product += share * (rows * seconds - self._product)

    def request_came(self, rows: int) -> None:
        """Learn how large requests are."""
        self._request_rows += (1.0 - KEPT) * (min(rows, self.batch_rows) - self._request_rows)

    @property
    def each_s(self) -> float:
        """`c`: seconds that one more row adds to a batch."""
        even = self._seconds / self._rows
        spread = max(0.0, self._square - self._rows**2)
        together = self._product - self._rows * self._seconds
        return min(even, max(0.0, (together + DOUBT * even) / (spread + DOUBT)))

    @property
    def fixed_s(self) -> float:
        """`a`: seconds that a batch takes however small it is."""
        return max(0.0, self._seconds - self.each_s * self._rows)

    def batch_s(self, rows: float) -> float:
        """Seconds of a batch of so many rows."""
        return self.fixed_s + self.each_s * rows

    @property
    def row_s(self) -> float:
        """Seconds a row when there is always enough for full batches."""
        return self.batch_s(self.batch_rows) / self.batch_rows

    @property
    def best_rows(self) -> int:
        """Rows that the next batch should have: more would only make its first row wait for its last."""
        worth = WORTH * self.row_s - self.each_s
        rows = self.fixed_s / worth if worth > 0 else self.batch_rows
        return min(self.batch_rows, max(1 + self._batches % TRIED, math.ceil(rows)))

    @property
    def usual_wait_s(self) -> float:
        """What nine of ten requests wait at most at 70 % load: a batch, and who came before."""
        arriving = USUAL_LOAD / self.row_s if self.row_s else 0.0
        free = 1.0 - arriving * self.each_s
        rows = min(self.batch_rows, max(self._request_rows, arriving * self.fixed_s / free))
        return self.batch_s(rows) + TAIL * self.each_s * self._request_rows


def longest_wait_s(pace: Pace, spec: ServingSpec, since_idle_s: float) -> float:
    """What a request may have to wait.

    Less once there was always more to do for a while: then whoever is let in waits as long as all the others.
    """
    patience_s = spec.patience * pace.usual_wait_s
    if since_idle_s < BURST_S:
        patience_s = max(patience_s, BURST_S)
    return min(patience_s, spec.wait_s)
