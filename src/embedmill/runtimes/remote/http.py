"""Questions over HTTP: one try each, with a deadline, no redirects, and no more bytes than may be."""

from __future__ import annotations

import datetime
import email.utils
import json
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, NamedTuple

import aiohttp

from embedmill.errors import ModelError, ServerDenied
from embedmill.runtimes.remote.base import OVERHEAD_BYTES, NotThere, Unanswered, one_line
from embedmill.spec.address import shown_address

TOO_MANY = 429
PASSING = frozenset({408, 425, TOO_MANY, 502, 503, 504})
"""Statuses that say: not now."""
DENIED = frozenset({401, 403})
"""Statuses that say: not you."""
CHUNK_BYTES = 64 * 1024


class Answer(NamedTuple):
    """A `200`: headers by lower-case name, and the body."""

    headers: Mapping[str, str]
    body: bytes


class Exchange(NamedTuple):
    """An answer of any status: headers by lower-case name, the body, and the words for the status."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    reason: str

    @property
    def said(self) -> str:
        """The status, and what the server says of an error, in one line."""
        return f"{self.status} {one_line(_words(self.body) or self.reason)}".strip()


class HttpServer:
    """A server's base URL. User and password in it are sent, and never told.

    No proxies, no cookies; certificates are checked.
    """

    def __init__(self, url: str, *, timeout_s: float, key: str = "") -> None:
        """Connect to nothing yet; `key` is sent as `Authorization: Bearer …`."""
        self._url, self._timeout_s = url.rstrip("/"), timeout_s
        self._authorization = {"Authorization": f"Bearer {key}"} if key else {}
        self._shown = shown_address(url)
        self._session: aiohttp.ClientSession | None = None

    async def get_json(self, path: str) -> Any:
        """Ask for a small document."""
        answer = await self.ask("GET", path)
        return parse_json(answer.body, said_by=self._shown)

    async def ask(
        self,
        method: str,
        path: str,
        *,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        limit_bytes: int = OVERHEAD_BYTES,
    ) -> Answer:
        """Send one request.

        Raises:
            Unanswered: There was no connection, no whole answer in time, or one that said: not now.
            NotThere: 404.
            ServerDenied: The server wants a key, or another one.
            ModelError: The server refused, redirected, or said more than `limit_bytes`.
        """
        exchange = await self.exchange(method, path, body=body, headers=headers, limit_bytes=limit_bytes)
        self._check(exchange)
        return Answer(exchange.headers, exchange.body)

    async def exchange(
        self,
        method: str,
        path: str,
        *,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        limit_bytes: int = OVERHEAD_BYTES,
    ) -> Exchange:
        """Send one request, and take the answer whatever its status is.

        Raises:
            Unanswered: There was no connection, or no whole answer in time.
            ModelError: The server does not speak HTTP, or said more than `limit_bytes`.
        """
        try:
            async with self._open().request(
                method, f"{self._url}{path}", data=body, headers=headers, allow_redirects=False
            ) as response:
                content = await self._read(response, limit_bytes)
                found = {k.lower(): v for k, v in response.headers.items()}
                return Exchange(response.status, found, content, response.reason or "")
        except TimeoutError as error:
            raise Unanswered(f"no answer within {self._timeout_s:g} s") from error
        except aiohttp.ClientConnectorCertificateError as error:
            raise ModelError(f"{self._shown}: certificate refused: {one_line(str(error))}") from error
        except aiohttp.ClientConnectorError as error:
            raise Unanswered(f"no connection: {one_line(str(error.os_error))}", reached=False) from error
        except aiohttp.ClientResponseError as error:
            raise ModelError(f"{self._shown}: does not speak HTTP: {one_line(error.message)}") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unanswered(one_line(str(error)) or "the connection broke") from error

    async def close(self) -> None:
        """Close connections."""
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        """A session belongs to the loop that is running when it is made."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=self._timeout_s),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={
                    "User-Agent": f"embedmill/{version('embedmill')}",
                    "Accept-Encoding": "identity",
                    **self._authorization,
                },
                auto_decompress=False,
                connector=aiohttp.TCPConnector(limit=0),
            )
        return self._session

    async def _read(self, response: aiohttp.ClientResponse, limit_bytes: int) -> bytes:
        parts, size = [], 0
        async for chunk in response.content.iter_chunked(CHUNK_BYTES):
            parts.append(chunk)
            size += len(chunk)
            if size > limit_bytes:
                response.close()
                raise ModelError(f"{self._shown}: answered more than the {limit_bytes} bytes that fit")
        return b"".join(parts)

    def _check(self, found: Exchange) -> None:
        status, encoding = found.status, found.headers.get("content-encoding", "identity")
        if status == 200 and encoding == "identity":
            return
        if status in PASSING:
            raise unanswered(found)
        if status == 404:
            raise NotThere(f"{self._shown}: answered {found.said}")
        if status in DENIED:
            sent = self._authorization or self._shown != self._url
            why = "refuses the key that was sent" if sent else "wants a key, and none was sent"
            raise ServerDenied(f"{self._shown}: {why}: answered {found.said}")
        if 300 <= status < 400:
            raise ModelError(
                f"{self._shown}: redirects ({status}), which is not followed",
                hint="name the server itself",
            )
        how = "" if status != 200 else f" in {one_line(encoding)}"
        raise ModelError(f"{self._shown}: answered {found.said}{how}")


def unanswered(found: Exchange) -> Unanswered:
    """What a status of `PASSING` says."""
    wait_s = _retry_after_s(found.headers.get("retry-after"))
    limited = found.status == TOO_MANY and wait_s is not None
    return Unanswered(f"answered {found.said}", wait_s=wait_s, limited=limited)


def parse_json(body: bytes, *, said_by: str) -> Any:
    """A JSON document from outside.

    Raises:
        ModelError: It is none, or one that is nested too deep.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"{said_by}: answered what is no JSON: {one_line(_text(body), at_most=80)!r}"
        ) from error


def _words(body: bytes) -> str:
    """What an error says: `error` of a JSON object, or `error.message`, as protocols have it; else all."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return _text(body)
    error = found.get("error") if isinstance(found, dict) else None
    error = error.get("message") if isinstance(error, dict) else error
    return error if isinstance(error, str) else _text(body)


def _text(body: bytes) -> str:
    return body[:4096].decode(errors="replace")


def _retry_after_s(value: str | None) -> float | None:
    """Seconds, or a date: RFC 9110, 10.2.3; None where it says neither."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        when = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (when - datetime.datetime.now(when.tzinfo)).total_seconds())
