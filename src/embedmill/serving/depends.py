"""What routes ask for: the release that answers this request, and the server's own things."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Annotated, TypeAlias

from fastapi import Depends, Request

from embedmill.serving.admission.keys import KeyRing
from embedmill.serving.live import Live
from embedmill.serving.observing.metrics import Metrics
from embedmill.serving.served import Served
from embedmill.serving.watchdog import HOPELESS, Watchdog
from embedmill.spec import ServingSpec


@dataclass
class Server:
    """What one server process has: the release that is live in it, its limits, and whether it is leaving.

    `keys`: None where anybody may ask; `private_metrics`: whether `/metrics` needs a key as well.
    """

    live: Live
    limits: ServingSpec = field(default_factory=ServingSpec)
    draining: bool = False
    keys: KeyRing | None = None
    private_metrics: bool = False
    metrics: Metrics = field(default_factory=Metrics)
    watchdog: Watchdog | None = None

    def complaint(self) -> str:
        """Why no requests should come here now; empty where they may."""
        if self.draining:
            return "draining"
        with self.live.hold() as served:
            if not served.alive:
                return "a model's thread is dead"
            return "" if self.watchdog is None else self.watchdog.complaint(served)

    def hopeless(self) -> str:
        """Why this process should be replaced: a model has not answered for so long that it never will."""
        with self.live.hold() as served:
            return "" if self.watchdog is None else self.watchdog.complaint(served, HOPELESS)


def server_of(request: Request) -> Server:
    """The server that got the request."""
    found: Server = request.app.state.server
    return found


async def the_server(request: Request) -> Server:
    """As `server_of`; what is not async would be called in another thread, which costs more than it does."""
    return server_of(request)


async def held(request: Request) -> AsyncIterator[Served]:
    """The release that answers: held until the answer is made, and named in its headers."""
    with server_of(request).live.hold() as served:
        request.state.served = served
        yield served


Answering: TypeAlias = Annotated[Served, Depends(held)]
TheServer: TypeAlias = Annotated[Server, Depends(the_server)]
