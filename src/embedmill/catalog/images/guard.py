"""Whom a fetch may talk to: checks every URL and every address before a connection is opened.

A name is resolved once in the life of a guard, all of its addresses are checked, and exactly these are
dialled: a name server that answers otherwise the second time is never asked. Whatever is dialled is compared
with what was checked once more, at the socket.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from embedmill.catalog.images.addresses import Address, address_of, is_public, looks_numeric
from embedmill.catalog.images.base import Refused
from embedmill.spec.fetch import AllowedHost
from embedmill.types import Reason

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Addresses of a host name, for connections to a port; raises OSError."""

WEB_PORTS = frozenset({80, 443})
_HOST_NAME = re.compile(r"(?!-)[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?")
_UNPRINTABLE = re.compile(r"^\s|\s$|[\x00-\x1f\x7f\\]")
_CREDENTIALS = re.compile(r"[^/?#]*//[^/?#]*@")
_NOT_THERE = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}


async def system_addresses(host: str, port: int) -> list[str]:
    """The addresses that this machine's resolver gives."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in found))


class Guard(AbstractResolver):
    """Checks URLs, pins names to checked addresses, and is the only resolver and dialler of a session."""

    def __init__(self, allow: Iterable[str] = (), resolve: Resolve = system_addresses) -> None:
        """Refuse all private addresses and unusual ports but those of `allow`."""
        self._allow = [AllowedHost.parse(entry) for entry in allow]
        self._resolve = resolve
        self._pins: dict[tuple[str, int], tuple[str, ...] | Refused] = {}
        self._locks: defaultdict[tuple[str, int], asyncio.Lock] = defaultdict(asyncio.Lock)
        self._approved: set[tuple[str, int]] = set()

    def target(self, url: str) -> URL:
        """The URL, if all is well with it as far as can be told without asking a name server.

        Raises:
            Refused: It is no http(s) URL, has credentials, or leads to a port or address that is not allowed.
        """
        if _UNPRINTABLE.search(url):
            raise _refused("has spaces around it, control characters or backslashes")
        if _CREDENTIALS.match(url):  # empty ones too, which the parser drops
            raise _refused("has a user name or password in it")
        try:
            return self._checked(URL(url))
        except ValueError as error:
            raise _refused(f"is not a URL: {error}") from None

    def joined(self, base: URL, location: str) -> URL:
        """Where a redirect leads, checked like any other URL.

        Raises:
            Refused: As of `target`.
        """
        try:
            whole = str(base.join(URL(location)))
        except ValueError as error:
            raise _refused(f"is redirected to what is not a URL: {error}") from None
        try:
            return self.target(whole)
        except Refused as refused:
            raise _refused(f"is redirected to {shown_url(whole)}, which {refused}") from None

    async def pin(self, url: URL) -> None:
        """Resolve and check the URL's host, once.

        Raises:
            Refused: There is no such host, or one of its addresses is not allowed.
            OSError: The name server gave no answer.
        """
        host, port = key_of(url)
        async with self._locks[host, port]:
            if (host, port) not in self._pins:
                self._pins[host, port] = await self._looked_up(host, port)
        pinned = self._pins[host, port]
        if isinstance(pinned, Refused):
            raise Refused(str(pinned), pinned.rejection.reason)

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002 - the resolver API
    ) -> list[ResolveResult]:
        """What the HTTP client asks: only pinned names have an answer."""
        pinned = self._pins.get((host, port))
        if pinned is None or isinstance(pinned, Refused):
            raise OSError(f"{host}: not a checked name")
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in pinned
        ]

    def dial(self, info: tuple[Any, ...]) -> socket.socket:
        """A socket for one address, made for none but those that were checked."""
        family, kind, protocol, _, where = info
        if (where[0], where[1]) not in self._approved:
            raise OSError(f"{where[0]}: not a checked address")
        return socket.socket(family, kind, protocol)

    async def close(self) -> None:
        """Nothing is held."""

    def _checked(self, url: URL) -> URL:
        if url.scheme not in {"http", "https"}:
            raise _refused("is not an http or https URL")
        host, port = key_of(url)
        address = address_of(host)
        if not host or (address is None and not _HOST_NAME.fullmatch(host)):
            raise _refused("has no proper host")
        if address is None and looks_numeric(host):
            raise _refused("has a host that is a number, and not an address as it is usually written")
        if port not in WEB_PORTS and all(entry.port != port for entry in self._allow):
            raise _refused(f"asks for port {port}: not 80 or 443, and not in catalog.fetch.allow")
        if address is not None:
            self._check(host, address, port)
        return url

    async def _looked_up(self, host: str, port: int) -> tuple[str, ...] | Refused:
        literal = address_of(host)
        try:
            found = [host] if literal else await self._resolve(host, port)
        except socket.gaierror as error:
            if error.errno not in _NOT_THERE:
                raise
            return _no_host(host)
        except UnicodeError:  # a label that no name server knows
            return _no_host(host)
        addresses = [address_of(each) for each in found]
        try:
            for address in addresses:
                if address is None:
                    raise _refused(f"leads to {host}, whose address is none")
                self._check(host, address, port)
        except Refused as refused:
            return refused
        if not found:
            return _no_host(host)
        self._approved |= {(written, port) for written in found}
        return tuple(found)

    def _check(self, host: str, address: Address, port: int) -> None:
        if port in WEB_PORTS and is_public(address):
            return
        for entry in self._allow:
            named = entry.host == host.rstrip(".") or (entry.network is not None and address in entry.network)
            if named and (entry.port == port or (entry.port is None and port in WEB_PORTS)):
                return
        where = f"{address}" if host == str(address) else f"{host} at {address}"
        raise _refused(
            f"leads to {where}, which is not a public address, and not in catalog.fetch.allow"
            if not is_public(address)
            else f"asks for port {port} of {where}: not 80 or 443, and not in catalog.fetch.allow"
        )


def key_of(url: URL) -> tuple[str, int]:
    """Host and port, as the HTTP client will ask for them."""
    return url.raw_host or "", url.port or 0


def shown_url(url: str, most: int = 200) -> str:
    """A URL for reports: without credentials and query, which may be secret, and cut."""
    bare, asked, _ = url.partition("?")
    bare = re.sub(r"//[^/@]*@", "//…@", bare.partition("#")[0])
    text = "".join(each if each.isprintable() else "\ufffd" for each in bare) + ("?…" if asked else "")
    return text if len(text) <= most else text[: most - 1] + "…"


def _no_host(host: str) -> Refused:
    return Refused(f"there is no host {host}", Reason.FETCH_FAILED)


def _refused(detail: str) -> Refused:
    return Refused(detail, Reason.REFUSED_ADDRESS)
