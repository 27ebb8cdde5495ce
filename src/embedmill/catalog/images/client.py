"""One request for an image: redirects checked hop by hop, bytes counted, nothing decompressed."""

from __future__ import annotations

import ssl
from importlib.metadata import version
from types import TracebackType
from typing import TYPE_CHECKING, Literal, NamedTuple

import aiohttp

from embedmill.catalog.images.base import Refused
from embedmill.types import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from embedmill.catalog.images.guard import Guard
    from embedmill.spec import FetchSpec

REDIRECTS = 5
_REDIRECTING = {301, 302, 303, 307, 308}
_OPAQUE_TYPES = {"application/octet-stream", "binary/octet-stream"}
"""What stores say of contents that they know nothing of."""


class Answer(NamedTuple):
    """What a server said at last: `headers` by lower-case name, `body` of a GET of the whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Stalled(TimeoutError):
    """An answer began to come, and no more of it came in time."""


class Client:
    """An HTTP session that talks to nobody whom its guard has not checked, and shares nothing between hosts.

    No cookies, no credentials, no proxies; certificates are checked against the URL's host.
    """

    def __init__(self, spec: FetchSpec, guard: Guard, connections_per_host: int) -> None:
        """Make ready; entering opens the session, in the running event loop."""
        self._spec, self._guard, self._connections_per_host = spec, guard, connections_per_host
        self.patience_s = spec.timeout_s / 3
        """For a connection, and for each next byte: so that a server that hangs once is asked again."""

    async def __aenter__(self) -> Client:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=self._guard,
                socket_factory=self._guard.dial,
                ssl=ssl.create_default_context(),
                use_dns_cache=False,
                limit=0,
                limit_per_host=self._connections_per_host,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={
                "User-Agent": f"embedmill/{version('embedmill')}",
                "Accept": "image/*,*/*;q=0.5",
                "Accept-Encoding": "identity",
            },
            timeout=aiohttp.ClientTimeout(sock_connect=self.patience_s, sock_read=self.patience_s),
            auto_decompress=False,
            trust_env=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def ask(
        self, method: Literal["GET", "HEAD"], url: str, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Follow redirects, each checked like the first URL, to an answer.

        Raises:
            Refused: A hop is not allowed, the image is too large, or what came is no image.
            OSError, aiohttp.ClientError, TimeoutError: There was no whole answer.
        """
        target = self._guard.target(url)
        for _ in range(REDIRECTS + 1):
            await self._guard.pin(target)
            async with self._session.request(
                method, target, headers=headers, allow_redirects=False
            ) as response:
                location = response.headers.get("Location")
                if response.status not in _REDIRECTING or location is None:
                    whole = method == "GET" and response.status == 200 and "Range" not in (headers or {})
                    body = await self._body(response) if whole else b""
                    return Answer(response.status, _headers(response), body)
                target = self._guard.joined(target, location)
        raise Refused(f"is redirected more than {REDIRECTS} times", Reason.FETCH_FAILED)

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        _check_kind(response)
        check_size(response.content_length or 0, self._spec.max_bytes)
        content = bytearray()
        try:
            async for chunk in response.content.iter_any():
                content += chunk
                check_size(len(content), self._spec.max_bytes)
        except TimeoutError as error:
            raise Stalled from error
        return bytes(content)


def _headers(response: aiohttp.ClientResponse) -> dict[str, str]:
    """By lower-case name; bytes that are no UTF-8 come as surrogates, which are no text either."""
    return {
        name.lower(): value.encode(errors="surrogateescape").decode(errors="replace")
        for name, value in response.headers.items()
    }


def check_size(size_bytes: int, most_bytes: int) -> None:
    """Raises Refused where there are more bytes than are wanted, or said to come."""
    if size_bytes > most_bytes:
        raise Refused(f"has more than {most_bytes} bytes", Reason.IMAGE_TOO_LARGE)


def _check_kind(response: aiohttp.ClientResponse) -> None:
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in {"", "identity"}:
        raise Refused("comes compressed, although that was not asked for", Reason.FETCH_FAILED)
    declared = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if declared and not declared.startswith("image/") and declared not in _OPAQUE_TYPES:
        raise Refused(f"is of type {declared[:60]!r}, and not an image", Reason.IMAGE_INVALID)
