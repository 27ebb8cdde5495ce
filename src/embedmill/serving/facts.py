"""What is noted of a request while it is answered, for its line in the log. Never contents, never keys."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass
class Facts:
    """`rows` that were embedded; the name of the `key`; the `reason` why it was refused, if it was."""

    rows: int = 0
    key: str = ""
    reason: str = ""


_FACTS: ContextVar[Facts] = ContextVar("facts")


def facts() -> Facts:
    """Those of the request that is answered here; outside of one, some that nobody reads."""
    return _FACTS.get(None) or Facts()


def begin() -> Facts:
    """Begin to note, in this task and those that it starts."""
    noted = Facts()
    _FACTS.set(noted)
    return noted
