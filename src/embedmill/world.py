"""What a process takes from the world beside its store: the time, waiting, and names that nobody else has.

It is handed in, so that a simulation can have its own: one that repeats itself, and waits without waiting.
"""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime


class World:
    """The real one; a simulation overrides all four."""

    def now(self) -> datetime:
        """The time of day in UTC: for people and for ages, never for what is safe."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds of a clock that never goes back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def token(self, size_bytes: int) -> str:
        """Random bytes in hex."""
        return secrets.token_hex(size_bytes)


WORLD = World()
"""The real world."""
