"""Errors in the shape that a protocol's clients read."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeAlias

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import Response

from embedmill.errors import EmbedmillError, RequestRefused
from embedmill.serving.answers import error_answer, headers_of, invalid, note_reason, status_of, unreadable

Shape: TypeAlias = Callable[[EmbedmillError, int], Mapping[str, Any]]
"""The document of an error that is answered with this HTTP status."""
PLAIN = re.compile(r"/v2(/.*)?|/v1/models/[^/]+(:(predict|classify|regress)|/.*)")
"""Addresses whose clients read `{"error": "…"}`, also where no route answers: Triton's shows no other."""
LONGEST = 1000
"""Characters of what an error says."""


class PlainError(BaseModel):
    """An error of TensorFlow Serving, or of the Open Inference Protocol."""

    error: str


def errors_like(model: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """What the API's document says of errors."""
    return {"default": {"model": model, "description": "An error"}}


def inline_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema of a body that is not FastAPI's to read, with each definition where it is used."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})

    def inlined(part: Any) -> Any:
        if isinstance(part, list):
            return [inlined(each) for each in part]
        if not isinstance(part, dict):
            return part
        whole = definitions[part["$ref"].rsplit("/", 1)[1]] | part if "$ref" in part else part
        return {key: inlined(value) for key, value in whole.items() if key != "$ref"}

    found: dict[str, Any] = inlined(schema)
    return found


def route_with(shape: Shape) -> type[APIRoute]:
    """A class of routes whose errors have this shape."""

    class ShapedRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            """The handler, with its errors as answers."""
            handle = super().get_route_handler()

            async def shaped(request: Request) -> Response:
                try:
                    return await handle(request)
                except (EmbedmillError, RequestValidationError, HTTPException) as error:
                    refused = _as_refusal(error)
                    note_reason(refused)
                    status = status_of(refused)
                    return JSONResponse(shape(refused, status), status, headers=headers_of(refused))

            return shaped

    return ShapedRoute


def refusal_at(path: str, error: EmbedmillError) -> Response:
    """The answer to a request that no route has seen, in the shape of its address."""
    if PLAIN.fullmatch(path) is None:
        return error_answer(error)
    status = status_of(error)
    return JSONResponse(plain(error, status), status, headers=headers_of(error))


def said(error: EmbedmillError) -> str:
    """The words of an error, cut: some quote what was sent."""
    return str(error)[:LONGEST]


def plain(error: EmbedmillError, _: int) -> Mapping[str, Any]:
    """`{"error": "…"}`, as TensorFlow Serving and the Open Inference Protocol have it."""
    return {"error": said(error)}


def _as_refusal(error: EmbedmillError | RequestValidationError | HTTPException) -> EmbedmillError:
    match error:
        case RequestValidationError():
            return invalid(error)
        case HTTPException():
            return unreadable(error) or RequestRefused(str(error.detail), status=error.status_code)
    return error
