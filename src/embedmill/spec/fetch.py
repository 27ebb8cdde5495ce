"""`catalog.fetch`: how images at http(s) URLs are fetched, and which private hosts may be asked."""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Literal, NamedTuple

from pydantic import Field, field_validator

from embedmill.spec.section import Section

_HOST = re.compile(r"(?!-)[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_ENTRY = re.compile(r"(?P<host>\[[^\]]+\](?:/\d+)?|[^:]+)(?::(?P<port>\d{1,5}))?")


class AllowedHost(NamedTuple):
    """A host name or a network that may be asked although it is private; `port` None: 80 and 443."""

    host: str | None
    network: IPv4Network | IPv6Network | None
    port: int | None

    @classmethod
    def parse(cls, entry: str) -> AllowedHost:
        """Read `host`, `host:port`, an address or a network in CIDR notation, with or without `:port`.

        An IPv6 address or network with a port stands in brackets: `[fd00::/8]:8080`.

        Raises:
            ValueError: It is none of these.
        """
        bare = _network(entry)
        if bare is not None:
            return cls(None, bare, None)
        found = _ENTRY.fullmatch(entry.lower())
        port = int(found["port"]) if found and found["port"] else None
        if found is None or (port is not None and not 0 < port < 2**16):
            raise ValueError(f"{entry!r}: a host, host:port, address or network, such as 10.0.0.0/8:8080")
        network = _network(found["host"].replace("[", "").replace("]", ""))
        if network is None and (not _HOST.fullmatch(found["host"]) or found["host"][-1].isdigit()):
            raise ValueError(f"{entry!r}: {found['host']} is neither a host name nor a network")
        return cls(found["host"] if network is None else None, network, port)


class FetchSpec(Section):
    """How images at http(s) URLs are fetched."""

    on_error: Literal["quarantine", "keep_previous"] = Field(
        default="quarantine",
        description="An item whose image cannot be fetched now is quarantined, or keeps the vector that it "
        "has in the live release.",
    )
    allow: tuple[str, ...] = Field(
        default=(),
        description="Private hosts that may be asked: `host`, `host:port`, or a network such as 10.0.0.0/8. "
        "All others must have public addresses, and ports 80 or 443.",
    )
    connections_per_host: int = Field(
        default=8, ge=1, le=256, description="Requests to one host at a time, for each lane of a worker."
    )
    attempts: int = Field(default=4, ge=1, le=20, description="Tries at one image, with growing pauses.")
    timeout_s: float = Field(default=30.0, ge=0.1, description="Seconds for one image, all tries together.")
    deadline_s: float = Field(
        default=900.0,
        ge=0.1,
        description="Seconds for the images of 8192 rows of a plan, or of one shard; the rest then counts as "
        "timed out.",
    )
    max_bytes: int = Field(default=32 << 20, ge=1, description="Bytes of one image, at most.")

    @field_validator("allow")
    @classmethod
    def _check_allowed(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        for entry in entries:
            AllowedHost.parse(entry)
        return entries


def _network(text: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None
