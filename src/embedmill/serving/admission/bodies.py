"""Bodies of requests: read whole before anything else is done, so large, and within so many seconds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from embedmill.errors import Overloaded, RequestRefused

if TYPE_CHECKING:
    from starlette.types import Receive, Scope

    from embedmill.spec import ServingSpec

TOO_LARGE, TIMED_OUT = 413, 408
AT_ONCE = 8
"""Memory for bodies of all requests together, as a multiple of the largest."""


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


@dataclass
class Budget:
    """Bytes of bodies that are in memory now."""

    limit_bytes: int
    held_bytes: int = 0

    @contextmanager
    def reading(self) -> Iterator[Reading]:
        """For one request: what it took is free again afterwards."""
        one = Reading(self)
        try:
            yield one
        finally:
            self.held_bytes -= one.size_bytes


@dataclass
class Reading:
    """One body, within a budget that it shares with others."""

    budget: Budget
    size_bytes: int = 0

    async def body(self, scope: Scope, receive: Receive, limits: ServingSpec) -> bytes:
        """The whole body.

        Raises:
            RequestRefused: It is too large, or did not come in time.
            Overloaded: Bodies of other requests take all the memory that there is for them.
            ClientGone: The client hung up.
        """
        declared = dict(scope["headers"]).get(b"content-length", b"")
        if declared.isdigit() and int(declared) > limits.max_body_bytes:
            raise _too_large(limits)
        try:
            async with asyncio.timeout(limits.body_s):
                return b"".join([piece async for piece in self._pieces(receive, limits)])
        except TimeoutError:
            raise RequestRefused(
                f"the body did not come within {limits.body_s:g} s", status=TIMED_OUT, reason="body_slow"
            ) from None

    async def _pieces(self, receive: Receive, limits: ServingSpec) -> AsyncIterator[bytes]:
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            piece = message.get("body", b"")
            self._take(len(piece), limits)
            yield piece
            more = message.get("more_body", False)

    def _take(self, size: int, limits: ServingSpec) -> None:
        self.size_bytes += size
        self.budget.held_bytes += size
        if self.size_bytes > limits.max_body_bytes:
            raise _too_large(limits)
        if self.budget.held_bytes > self.budget.limit_bytes:
            raise Overloaded("other requests are being read", reason="bodies")


def _too_large(limits: ServingSpec) -> RequestRefused:
    return RequestRefused(
        "the body is too large",
        hint=f"at most {limits.max_body_bytes} bytes",
        status=TOO_LARGE,
        reason="body_bytes",
    )
