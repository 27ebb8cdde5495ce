"""ASGI middleware: every answer names the release that it is from, and the request that it answers."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUEST_ID = b"x-request-id"
ACCEPTED = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


class Labels:
    """Adds `embedmill-release`, `-release-number`, `-model` and `x-request-id` to answers."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and label its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state["request_id"] = request_id(scope)

        async def labelled(message: Message) -> None:
            if message["type"] == "http.response.start":
                served = state.get("served")
                labels = {} if served is None else served.labels
                labels = labels | {"x-request-id": state["request_id"]}
                more = [(name.encode(), value.encode()) for name, value in labels.items()]
                message["headers"] = [*message.get("headers", []), *more]
            await send(message)

        await self._app(scope, receive, labelled)


def request_id(scope: Scope) -> str:
    """The caller's id, where it is harmless; else a fresh one."""
    for name, value in scope["headers"]:
        if name == REQUEST_ID and ACCEPTED.fullmatch(value):
            return str(value.decode())
    return secrets.token_hex(8)
