"""`/`: a page to search with a text or an image, in the browser; it asks the same addresses as everyone."""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter
from starlette.responses import RedirectResponse, Response

from embedmill.errors import RequestRefused

router = APIRouter(include_in_schema=False)

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
KINDS = {"search.html": "text/html", "search.css": "text/css", "search.js": "text/javascript"}
SAFE = {"content-security-policy": POLICY, "x-content-type-options": "nosniff", "cache-control": "no-cache"}


@router.head("/")
@router.get("/")
async def page() -> Response:
    """The search page."""
    return _file("search.html")


@router.get("/pages/{name}")
async def part(name: str) -> Response:
    """What the page is made of."""
    if name not in KINDS:
        raise RequestRefused(f"no page {name!r}", status=404)
    return _file(name)


@router.get("/favicon.ico")
async def icon() -> Response:
    """That of the API's page."""
    return RedirectResponse("static-offline-docs/favicon.png")


def _file(name: str) -> Response:
    data = (files("embedmill.serving") / "pages" / name).read_bytes()
    return Response(data, media_type=f"{KINDS[name]}; charset=utf-8", headers=SAFE)
