"""AWS's Signature Version 4.

https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html has the rules. S3's is the
simple variant: a path is encoded once and never normalized. What is sent is written as it is signed, so that
the two cannot differ.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

ALGORITHM = "AWS4-HMAC-SHA256"
NO_BODY = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True)
class Keys:
    """Who signs; the session token is "" for keys that last. Shown are none of them."""

    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)


@dataclass(frozen=True)
class Request:
    """A request to `host` (with its port where it has one); path and query are not encoded."""

    method: str
    host: str
    path: str
    query: tuple[tuple[str, str], ...] = ()

    @property
    def target(self) -> str:
        """Path and query as they are sent."""
        return f"{self.encoded_path}?{self.encoded_query}" if self.query else self.encoded_path

    @property
    def encoded_path(self) -> str:
        """The path, each byte but letters, digits, `-_.~` and `/` as `%XX`."""
        return quote(self.path, safe="/-_.~")

    @property
    def encoded_query(self) -> str:
        """The pairs, encoded and then in order."""
        pairs = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in self.query)
        return "&".join(f"{name}={value}" for name, value in pairs)


def signed(
    request: Request,
    keys: Keys,
    at: datetime,
    *,
    region: str,
    headers: Mapping[str, str] | None = None,
    service: str = "s3",
    body: bytes = b"",
) -> dict[str, str]:
    """The headers of the request: those given (names in lower case), the time, and the signature over all.

    Args:
        request: What is asked.
        keys: Who asks.
        at: The time in UTC, of which the service has almost the same.
        region: The bucket's.
        headers: Others that are sent, and signed too.
        service: Whose scope the signature is for.
        body: What is sent.
    """
    stamp = f"{at:%Y%m%dT%H%M%SZ}"
    sent = {**(headers or {}), "x-amz-date": stamp}
    if keys.session_token:
        sent["x-amz-security-token"] = keys.session_token
    lines = sorted({**sent, "host": request.host}.items())
    names = ";".join(name for name, _ in lines)
    canonical = "\n".join(
        [
            request.method,
            request.encoded_path,
            request.encoded_query,
            *(f"{name}:{' '.join(value.split())}" for name, value in lines),
            "",
            names,
            hashlib.sha256(body).hexdigest(),
        ]
    )
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    text = "\n".join([ALGORITHM, stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    signature = hmac.new(_signing_key(keys, scope), text.encode(), hashlib.sha256).hexdigest()
    credential = f"{keys.access_key_id}/{scope}"
    sent["authorization"] = (
        f"{ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={signature}"
    )
    return sent


def _signing_key(keys: Keys, scope: str) -> bytes:
    """A key that is good for this day, region and service alone."""
    key = b"AWS4" + keys.secret_access_key.encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
