"""Embeds a golden through every lane, again and again: a model that hangs, dies or errs is not ready.

every_s: embed one golden a lane      3 x every_s without a good one: not ready      20 x: to be restarted
"""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import wait
from dataclasses import dataclass
from typing import TYPE_CHECKING

from embedmill.errors import EmbedmillError, Overloaded
from embedmill.model.goldens import LOWEST_COSINE, cosines

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    import pyarrow as pa

    from embedmill.serving.lanes.lane import Lane
    from embedmill.serving.live import Live
    from embedmill.serving.served import Served
    from embedmill.types import Encoded, Vectors

log = logging.getLogger("embedmill.serving")

STALE, HOPELESS = 3.0, 20.0


@dataclass(frozen=True)
class Probe:
    """One golden: its row, and the vector that was published of it, float32[1, D]."""

    row: pa.RecordBatch
    vector: Vectors


class Watchdog:
    """Knows when each lane of the live release last made the right vector."""

    def __init__(self, live: Live, every_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Look every `every_s` once started. A release is good when it is first seen: it was proven.

        `clock` tells seconds, by which what was good grows old.
        """
        self._live = live
        self._every_s = every_s
        self._clock = clock
        self._good: dict[tuple[str, str], float] = {}
        self._stop = threading.Event()

    def start(self) -> None:
        """Look, in a thread."""
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()

    def look(self) -> None:
        """Embed a golden through each lane, and note those that made its vector."""
        with self._live.hold() as served:
            asked = {name: self._ask(served, name) for name in served.probes}
            futures = [future for future in asked.values() if future is not None]
            periods = [self._period_s(served.lanes[name]) for name in asked]
            wait(futures, timeout=max(periods, default=0.0))
            for name, future in asked.items():
                if future is not None and self._is_good(served, name, future):
                    self._good[served.release.name, name] = self._clock()
            names = {(served.release.name, name) for name in served.probes}
        self._good = {name: at for name, at in self._good.items() if name in names}

    def complaint(self, served: Served, limit: float = STALE) -> str:
        """Which lane has made no right vector for `limit` times the time between two; empty: all have."""
        now = self._clock()
        for name in served.probes:
            age_s = now - self._good.setdefault((served.release.name, name), now)
            if age_s > limit * self._period_s(served.lanes[name]):
                return f"encoder {name} has made no right vector for {age_s:.0f} s"
        return ""

    def _period_s(self, lane: Lane) -> float:
        """A probe waits for the batch that is computed, and a full one may take longer than `every_s`."""
        return max(self._every_s, 2.0 * lane.pace.batch_s(lane.pace.batch_rows))

    def _ask(self, served: Served, name: str) -> Future[Encoded] | None:
        try:
            return served.lanes[name].submit(served.probes[name].row, urgent=True)
        except Overloaded:
            return None

    def _is_good(self, served: Served, name: str, future: Future[Encoded]) -> bool:
        if future.cancel() or not future.done():
            log.warning("encoder %s does not answer", name)
            return False
        try:
            cosine = float(cosines(future.result().vectors_ND, served.probes[name].vector)[0])
        except Exception as error:  # noqa: BLE001 - whatever it is, that was not the right vector
            reason = str(error) if isinstance(error, EmbedmillError) else type(error).__name__
            log.error("encoder %s: %s", name, reason)  # noqa: TRY400 - no stack of ours helps
            return False
        if not cosine >= LOWEST_COSINE:
            log.error("encoder %s: a golden has the cosine %.6f with what was published", name, cosine)
            return False
        return True

    def _watch(self) -> None:
        while not self._stop.wait(self._every_s):
            self.look()
