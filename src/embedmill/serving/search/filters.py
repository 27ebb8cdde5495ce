"""Filters of a release's items, each computed once: searches of a page repeat the same few."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from embedmill.release.search import Searcher
    from embedmill.types import Mask

KEPT = 64


class Filters:
    """The newest filters with the items that they leave."""

    def __init__(self, searcher: Searcher) -> None:
        """Compute nothing yet."""
        self._searcher = searcher
        self._masks: OrderedDict[str, Mask] = OrderedDict()
        self._lock = threading.Lock()

    def mask(self, where: str) -> Mask:
        """bool[all items]; see `Searcher.where`."""
        with self._lock:
            if where in self._masks:
                self._masks.move_to_end(where)
                return self._masks[where]
        found = self._searcher.where(where)
        with self._lock:
            self._masks[where] = found
            while len(self._masks) > KEPT:
                self._masks.popitem(last=False)
        return found
