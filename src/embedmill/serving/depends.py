"""What routes ask for: the release that answers this request, and the server's own things."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Annotated, TypeAlias

from fastapi import Depends, Request

from embedmill.serving.live import Live
from embedmill.serving.served import Served
from embedmill.spec import ServingSpec


@dataclass
class Server:
    """What one server process has: the release that is live in it, its limits, and whether it is leaving."""

    live: Live
    limits: ServingSpec = field(default_factory=ServingSpec)
    draining: bool = False


def the_server(request: Request) -> Server:
    """The server that got the request."""
    found: Server = request.app.state.server
    return found


async def held(request: Request) -> AsyncIterator[Served]:
    """The release that answers: held until the answer is made, and named in its headers."""
    with the_server(request).live.hold() as served:
        request.state.served = served
        yield served


Answering: TypeAlias = Annotated[Served, Depends(held)]
TheServer: TypeAlias = Annotated[Server, Depends(the_server)]
