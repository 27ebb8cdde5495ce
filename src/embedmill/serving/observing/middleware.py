"""ASGI middleware: every request is counted, and has a line in the log."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from embedmill.serving.admission.middleware import METRICS, OPEN
from embedmill.serving.observing.facts import begin

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from embedmill.serving.observing.facts import Facts
    from embedmill.serving.observing.metrics import Metrics

log = logging.getLogger("embedmill.requests")

CLIENT_GONE = 499
"""What is noted where there was nobody to answer, as nginx does."""
OTHER = "other"
"""The route of addresses that there are not: callers must not make up labels."""
REMEMBERED = 256
"""Addresses whose routes are remembered."""
SILENT = OPEN | {METRICS}
"""Asked every few seconds, for ever: no line, unless they fail."""


class Observing:
    """Notes what a request was, what became of it, and how long that took."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        """Wrap an application."""
        self._app = app
        self._metrics = metrics
        self._routes: dict[str, str] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and note it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        noted, started, status = begin(), time.monotonic(), CLIENT_GONE

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._metrics.in_flight.inc()
        try:
            await self._app(scope, receive, observed)
        except Exception:
            status = 500
            raise
        finally:
            self._metrics.in_flight.dec()
            status = CLIENT_GONE if noted.reason == "client_gone" else status
            self._note(scope, noted, status, time.monotonic() - started)

    def _note(self, scope: Scope, noted: Facts, status: int, seconds: float) -> None:
        route = self._route_of(scope)
        method = scope["method"] if route != OTHER else OTHER
        self._metrics.request_done(route, method, status, seconds, rows=noted.rows, reason=noted.reason)
        if route in SILENT and status < 400:
            return
        state = scope.get("state", {})
        served = state.get("served")
        fields = {
            "id": state.get("request_id", ""),
            "method": method,
            "route": route,
            "status": status,
            "ms": round(seconds * 1000, 2),
            "rows": noted.rows,
            "release": "" if served is None else served.release.name,
            "key": noted.key,
            "reason": noted.reason,
        }
        log.info("request", extra={"fields": {name: value for name, value in fields.items() if value != ""}})

    def _route_of(self, scope: Scope) -> str:
        """The route's template, such as `/items/{id}`; never the address, which callers make up.

        What was refused before it met its route has that of an earlier request to the same address.
        """
        path, route = scope["path"], scope.get("route")
        if route is None:
            return self._routes.get(path, OTHER)
        if len(self._routes) < REMEMBERED:
            self._routes[path] = str(route.path)
        return str(route.path)
