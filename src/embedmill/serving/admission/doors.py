"""Refuses before a request is read what its queue would refuse afterwards: to say no must cost nothing.

Which queue an address leads to is learned from the first request that was refused there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from embedmill.serving.observing.facts import BoundedQueue, Facts


class Doors:
    """For each address: the queue behind it, while it has much to do, and who is on the way there."""

    def __init__(self) -> None:
        """All are open."""
        self._queues: dict[str, BoundedQueue] = {}
        self._inside: defaultdict[str, list[Facts]] = defaultdict(list)

    def check(self, path: str) -> None:
        """Look whether the queue has room for one more, behind those that are on their way.

        Raises:
            Overloaded: It has none.
        """
        queue = self._queues.get(path)
        if queue is None:
            return
        if queue.idle:
            del self._queues[path]
        else:
            queue.check_room(sum(not each.rows for each in self._inside[path]))

    @contextmanager
    def passing(self, path: str, noted: Facts) -> Iterator[None]:
        """While a request is answered."""
        self._inside[path].append(noted)
        try:
            yield
        finally:
            self._leave(path, noted)
            if noted.queue is not None:
                self._queues[path] = noted.queue

    def _leave(self, path: str, noted: Facts) -> None:
        inside = self._inside[path]
        inside[:] = [each for each in inside if each is not noted]
        if not inside:
            del self._inside[path]
