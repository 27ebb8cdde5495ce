"""Draining: all workers of an open run leave after their batch, and none joins, until it is gone on with.

One worker can be asked to leave, too: after its shard, so that nothing is done twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedmill.errors import StoreError
from embedmill.spec.documents import Drain
from embedmill.store.pace import POLITE_LOOK_S

if TYPE_CHECKING:
    from embedmill.release.layout import Home

DRAIN, DRAINED = "drain.json", "the run is drained"
SENT_AWAY = "its place is another's"


def drain(home: Home, run: str) -> Drain:
    """Ask all workers of a run to stop after their batch; returns the first asking that still holds."""
    return home.create(home.run_key(run, DRAIN), Drain(run=run, active=True, created=home.now()))


def undrain(home: Home, run: str) -> Drain:
    """Let workers work on a run again, those that were sent away too."""
    for info in home.store.list(home.run_key(run, "leave")):
        home.store.delete(info.key)
    if is_drained(home, run):
        home.store.delete(home.run_key(run, DRAIN))
    return Drain(run=run, active=False, created=home.now())


def is_drained(home: Home, run: str) -> bool:
    """Whether workers are to leave the run alone."""
    return home.exists(home.run_key(run, DRAIN))


def send_away(home: Home, run: str, worker: str) -> None:
    """Ask one worker of a run to leave after its shard."""
    home.create(_leave(home, run, worker), Drain(run=run, active=True, created=home.now()))


def call_back(home: Home, run: str, worker: str) -> None:
    """Let a worker of that name work again, before it is started."""
    home.store.delete(_leave(home, run, worker))


def is_sent_away(home: Home, run: str, worker: str) -> bool:
    """Whether this worker is to leave."""
    return home.exists(_leave(home, run, worker))


def _leave(home: Home, run: str, worker: str) -> str:
    return home.run_key(run, "leave", f"{worker}.json")


class DrainWatch:
    """Says why a worker is to stop, or nothing; a remote store is asked every 2 s."""

    def __init__(self, home: Home, run: str) -> None:
        """Ask nothing yet."""
        self._home, self._run = home, run
        self._every_s = POLITE_LOOK_S if home.store.remote else 0.0
        self._asked_s = home.world.monotonic()

    def __call__(self) -> str:
        """The reason; a store that gives no answer has none."""
        now_s = self._home.world.monotonic()
        if now_s - self._asked_s < self._every_s:
            return ""
        self._asked_s = now_s
        try:
            return DRAINED if is_drained(self._home, self._run) else ""
        except StoreError:
            return ""
