"""`Live`: which release is served, now and for each request; and `Follower`, which brings the next one.

A request holds one release from its first line to its last, so that no answer ever mixes two. A release that
was swapped out is closed when the last request that holds it is answered.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from embedmill.errors import EmbedmillError
from embedmill.release.log import live_release
from embedmill.release.reader import open_release

if TYPE_CHECKING:
    from embedmill.release.layout import Home
    from embedmill.serving.served import Loader, Served

log = logging.getLogger("embedmill.serving")

AGAIN_S = 600.0
"""After how long a release that could not be served is tried again."""


@dataclass
class _Slot:
    served: Served
    holders: int = 0
    current: bool = True


class Live:
    """The release that is served."""

    def __init__(self, served: Served) -> None:
        """Serve this one."""
        self._slot = _Slot(served)
        self._lock = threading.Lock()
        self.swaps = 0
        self.refused: dict[str, str] = {}
        """What was live in the store since, and could not be served here, each release with the reason."""

    @property
    def served(self) -> Served:
        """The release that new requests get; `hold` it to use it."""
        return self._slot.served

    @contextmanager
    def hold(self) -> Iterator[Served]:
        """The release, for one request: it stays open until the request is answered."""
        with self._lock:
            slot = self._slot
            slot.holders += 1
        try:
            yield slot.served
        finally:
            with self._lock:
                slot.holders -= 1
                unused = not slot.current and slot.holders == 0
            if unused:
                _close_later(slot.served)

    def swap(self, served: Served) -> None:
        """Serve this release from now on; requests that hold the old one still get it."""
        with self._lock:
            old, self._slot = self._slot, _Slot(served)
            old.current = False
            self.swaps += 1
            unused = old.holders == 0
        if unused:
            _close_later(old.served)

    def close(self) -> None:
        """End the release that is served."""
        self.served.close()


def _close_later(served: Served) -> None:
    """In a thread of its own: it waits for other threads, and the caller may be an event loop."""
    threading.Thread(target=served.close, name="close-release", daemon=True).start()


@dataclass
class Follower:
    """Looks at the log every `poll_s`, and swaps to a release that went live once it has proven itself.

    One that fails is named in `Live.refused` and the log, and the old one goes on being served.
    """

    home: Home
    live: Live
    load: Loader
    poll_s: float = 10.0
    _stop: threading.Event = field(default_factory=threading.Event)
    _tried: dict[str, float] = field(default_factory=dict)

    def start(self) -> None:
        """Follow, in a thread."""
        threading.Thread(target=self._follow, name="follow", daemon=True).start()

    def stop(self) -> None:
        """Follow no more."""
        self._stop.set()

    def look(self) -> bool:
        """Look once: whether the release was swapped."""
        try:
            wanted = live_release(self.home).release
        except EmbedmillError as error:
            log.warning("the log could not be read: %s", error)
            return False
        if wanted == self.live.served.release.name:
            self.live.refused = {}
            return False
        if time.monotonic() - self._tried.get(wanted, -AGAIN_S) < AGAIN_S:
            return False
        try:
            served = self.load(open_release(self.home, wanted))
        except Exception as error:  # noqa: BLE001 - whatever it is, the old release goes on being served
            self._tried[wanted] = time.monotonic()
            self.live.refused[wanted] = str(error)
            log.error("release %s is not served: %s", wanted, error)  # noqa: TRY400 - no stack of ours helps
            return False
        self.live.refused = {}
        self.live.swap(served)
        log.info("release %s is served now", wanted)
        return True

    def _follow(self) -> None:
        while not self._stop.wait(self.poll_s):
            self.look()
