"""URLs of servers, as people write them."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit


def check_address(url: str, schemes: Sequence[str], *, credentials: bool) -> None:
    """Fail unless `url` says where a server is.

    Args:
        url: Such as `http://host:8000`, or `https://gateway/triton`.
        schemes: How it may start.
        credentials: Whether it may have `user:password@`.

    Raises:
        ValueError: It does not; the message does not repeat it, since it may have a password.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError("is no URL") from error
    if parts.scheme not in schemes or not parts.hostname or port == 0:
        raise ValueError(f"is no address; write {' or '.join(f'{scheme}://host:port' for scheme in schemes)}")
    if parts.query or parts.fragment or any(c.isspace() for c in url):
        raise ValueError("a server's address has no query, fragment or space")
    if not credentials and "@" in parts.netloc:
        raise ValueError("has credentials, and everybody can read them in a package; put them elsewhere")


def shown_address(url: str) -> str:
    """The same without credentials, for messages and logs."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")
