"""ASGI middleware: who may ask, how often, how much; and an end to what nobody waits for.

key ─▶ rate ─▶ room for one more ─▶ body, whole ─▶ the application ─▶ answer
 401    429     429                  413, 408       503 when it takes too long; none when the client is gone
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from embedmill.errors import EmbedmillError, Overloaded, RequestRefused
from embedmill.serving.admission.bodies import AT_ONCE, TIMED_OUT, Budget, ClientGone
from embedmill.serving.admission.doors import Doors
from embedmill.serving.admission.keys import presented
from embedmill.serving.admission.rates import Rates
from embedmill.serving.answers import UNAUTHORIZED
from embedmill.serving.observing.facts import facts
from embedmill.serving.requests.shapes import refusal_at

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from embedmill.serving.depends import Server

OPEN = frozenset({"/healthz", "/readyz"})
"""What anybody may ask at any time: probes have no keys, and must not starve."""
PUBLIC = ("/pages/", "/docs", "/openapi.json", "/static-offline-docs/", "/favicon.ico")
"""What says nothing of a release, and needs no key: the search page asks for one."""
METRICS = "/metrics"


class Admission:
    """Lets requests in, one by one, within the limits of the server."""

    def __init__(self, app: ASGIApp, server: Server) -> None:
        """Wrap an application."""
        self._app = app
        self._server = server
        self._inside = 0
        per_minute = server.limits.requests_per_minute
        self._rates = None if per_minute is None else Rates(per_minute)
        self._doors = Doors()
        self._budget = Budget(AT_ONCE * server.limits.max_body_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or say why not."""
        if scope["type"] != "http" or self._is_open(scope["path"]):
            await self._app(scope, receive, send)
            return
        try:
            self._check_caller(scope)
            self._doors.check(scope["path"])
            with self._room(), self._doors.passing(scope["path"], facts()), self._budget.reading() as reading:
                body = await reading.body(scope, receive, self._server.limits)
                await self._answer(scope, receive, send, body)
        except ClientGone:
            facts().reason = "client_gone"
        except (Overloaded, RequestRefused) as error:
            facts().reason = error.reason
            await _refuse(error, scope, receive, send)

    def _is_open(self, path: str) -> bool:
        return path in OPEN or (path == METRICS and not self._server.private_metrics)

    def _check_caller(self, scope: Scope) -> None:
        caller = str((scope.get("client") or ("unknown",))[0])
        if self._server.keys is not None and not _is_public(scope["path"]):
            key = presented(scope["headers"])
            name = None if key is None else self._server.keys.name_of(key)
            if name is None:
                raise RequestRefused(
                    "no key" if key is None else "not a key of this server",
                    hint="send Authorization: Bearer KEY",
                    status=UNAUTHORIZED,
                    reason="key",
                )
            facts().key = caller = name
        if self._rates is None or scope["path"] == METRICS:  # who watches is no caller
            return
        wait_s = self._rates.wait_s(caller)
        if wait_s:
            raise Overloaded(
                f"more than {self._server.limits.requests_per_minute} requests a minute",
                retry_after_s=wait_s,
                reason="rate",
            )

    @contextmanager
    def _room(self) -> Iterator[None]:
        if self._inside >= self._server.limits.max_requests:
            raise Overloaded(f"{self._inside} requests are in the server", reason="requests")
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    async def _answer(self, scope: Scope, receive: Receive, send: Send, body: bytes) -> None:
        """Let the application answer, unless the client goes or it takes too long."""
        watched = _Watched(receive, send, body)
        answering = asyncio.ensure_future(self._app(scope, watched.receive, watched.send))
        try:
            await asyncio.wait(
                {answering, watched.gone},
                timeout=self._server.limits.answer_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if answering.done() or watched.completed:
                await answering
                return
        finally:
            watched.gone.cancel()
            answering.cancel()
            await asyncio.wait({answering})
        if not answering.cancelled() and answering.exception() is not None:
            await answering
        if watched.gone.done() and not watched.gone.cancelled():
            raise ClientGone
        if not watched.started:
            raise Overloaded("there was no answer in time", status=503, reason="answer")


def _is_public(path: str) -> bool:
    return path == "/" or path.startswith(PUBLIC)


class _Watched:
    """A request whose body was read, and what was sent of its answer."""

    def __init__(self, receive: Receive, send: Send, body: bytes) -> None:
        self._body: bytes | None = body
        self._send = send
        self.gone = asyncio.ensure_future(receive())
        """Done when the client hung up, or the answer is complete: nothing else can come after a body."""
        self.started = self.completed = False

    async def receive(self) -> Message:
        """The body, and then, at some time, that the client has gone."""
        if self._body is None:
            return await asyncio.shield(self.gone)
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Message) -> None:
        """Pass on, and note how far the answer is."""
        self.started = True
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self.completed = True
        await self._send(message)


async def _refuse(error: EmbedmillError, scope: Scope, receive: Receive, send: Send) -> None:
    answer = refusal_at(scope["path"], error)
    if isinstance(error, RequestRefused) and error.status == TIMED_OUT:
        answer.headers["connection"] = "close"
    await answer(scope, receive, send)
