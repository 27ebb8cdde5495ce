"""What is noted of a request while it is answered, for its line in the log. Never contents, never keys."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol


class BoundedQueue(Protocol):
    """What refuses requests when it is full."""

    def check_room(self, on_the_way: int) -> None:
        """Whether there will be room for one more request behind those that are on their way.

        Raises:
            Overloaded: There will not.
        """
        ...

    @property
    def idle(self) -> bool:
        """Whether it has nothing to do."""
        ...


@dataclass
class Facts:
    """`rows` to embed; the name of the `key`; the `reason` of a refusal, and the `queue` that was full."""

    rows: int = 0
    key: str = ""
    reason: str = ""
    queue: BoundedQueue | None = None


_FACTS: ContextVar[Facts] = ContextVar("facts")


def facts() -> Facts:
    """Those of the request that is answered here; outside of one, some that nobody reads."""
    return _FACTS.get(None) or Facts()


def begin() -> Facts:
    """Begin to note, in this task and those that it starts."""
    noted = Facts()
    _FACTS.set(noted)
    return noted
