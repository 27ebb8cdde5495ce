"""How often to look into a store for what others do there.

A look at a local store costs nothing worth saving. A look at a remote one is a request or a few, paid for by
number and taken from what work could use: so those who wait look less often the longer nothing happens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from embedmill.store.base import Store

LOOK_S = 0.2
POLITE_LOOK_S = 2.0
GROWTH = 1.5
"""From wait to wait."""


class Pace:
    """The waits of one who looks again and again: 0.2 s on a local store, growing to 2 s on a remote one."""

    def __init__(self, store: Store) -> None:
        """Begin with short waits."""
        self._longest_s = POLITE_LOOK_S if store.remote else LOOK_S
        self._next_s = LOOK_S

    def wait_s(self) -> float:
        """Seconds until the next look; each time more, up to the longest."""
        wait_s, self._next_s = self._next_s, min(self._longest_s, self._next_s * GROWTH)
        return wait_s

    def restart(self) -> None:
        """Something has happened: begin with short waits again."""
        self._next_s = LOOK_S
