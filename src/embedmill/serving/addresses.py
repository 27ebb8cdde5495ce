"""ASGI middleware: where an item's id ends in its address.

Ids may hold slashes, and may end in `/picture` or `/similar`. So `%2F` is of the id, and `/` parts what
follows: `/items/a%2Fpicture` is the item `a/picture`, `/items/a/picture` the picture of `a`. Routes are given
an address decoded, where both are one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote, unquote, unquote_to_bytes

from pydantic import AfterValidator

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

PREFIX = "/items/"

ItemId = Annotated[str, AfterValidator(unquote)]
"""An id in an address, as `ItemAddresses` leaves it: quoted."""


class ItemAddresses:
    """Gives routes the addresses of items with all but their own slashes quoted."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] == "http":
            root, path = _parted(scope["path"], scope.get("root_path", ""))
            if path.startswith(PREFIX):
                scope["path"] = root + _quoted(path, _raw(scope))
        await self._app(scope, receive, send)


def _parted(path: str, root: str) -> tuple[str, str]:
    """Where the application is mounted, if the path says so, and what routes see: as Starlette parts it."""
    return (root, path[len(root) :]) if path.startswith(f"{root}/") else ("", path)


def _raw(scope: Scope) -> bytes:
    """The address as it came, behind where the application is mounted; empty if nobody says."""
    raw: bytes = scope.get("raw_path") or b""
    return raw.removeprefix(quote(scope.get("root_path", "")).encode())


def _quoted(path: str, raw: bytes) -> str:
    """The address in one spelling, however much of it the client quoted."""
    if raw.startswith(PREFIX.encode()):
        return "/".join(quote(unquote_to_bytes(part), safe="") for part in raw.split(b"/"))
    return "/".join(quote(part, safe="") for part in path.split("/"))  # it was decoded already
