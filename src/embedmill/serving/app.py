"""The application: routes, and what lies around them."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.responses import Response

from embedmill.errors import EmbedmillError
from embedmill.serving.addresses import ItemAddresses
from embedmill.serving.admission.middleware import Admission
from embedmill.serving.answers import (
    UNPROCESSABLE,
    ErrorAnswer,
    error_answer,
    invalid,
    note_reason,
    unreadable,
)
from embedmill.serving.observing.labels import Labels
from embedmill.serving.observing.middleware import Observing
from embedmill.serving.requests.shapes import PLAIN
from embedmill.serving.routes import ROUTERS

if TYPE_CHECKING:
    from embedmill.serving.depends import Server


def make_app(server: Server) -> FastAPI:
    """The API over the server's live release."""
    app = FastAPIOffline(
        redoc_url=None,
        title="Embedmill",
        version=version("embedmill"),
        responses={"default": {"model": ErrorAnswer, "description": "An error"}},
    )
    app.state.server = server
    for router in ROUTERS:
        app.include_router(router)
    app.add_exception_handler(EmbedmillError, _embedmill_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    server.metrics.watch(server)
    app.add_middleware(Admission, server=server)
    app.add_middleware(Observing, metrics=server.metrics)
    app.add_middleware(Labels)
    app.add_middleware(ItemAddresses)  # the outermost: all others know an address in one spelling
    return app


async def _embedmill_error(_: Request, error: Exception) -> Response:
    if not isinstance(error, EmbedmillError):  # it is registered for these alone
        raise error
    note_reason(error)
    return error_answer(error)


async def _invalid(_: Request, error: Exception) -> Response:
    """What pydantic refuses, in the shape of every other error."""
    if not isinstance(error, RequestValidationError):
        raise error
    return error_answer(invalid(error, UNPROCESSABLE))


async def _http_error(request: Request, error: Exception) -> Response:
    """Unknown addresses and methods, and bodies that are no text, in the shape of every other error there."""
    if not isinstance(error, HTTPException):
        raise error
    no_body = unreadable(error, UNPROCESSABLE)
    if no_body is not None:
        return error_answer(no_body)
    if PLAIN.fullmatch(request.url.path) is not None:
        return JSONResponse({"error": str(error.detail)}, error.status_code, headers=error.headers)
    body = {"code": "HTTPError", "type": "HTTPError", "message": str(error.detail), "hint": ""}
    return JSONResponse({"error": body}, error.status_code, headers=error.headers)
