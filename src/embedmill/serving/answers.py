"""What every answer has in common: how an error looks, and which HTTP status it has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi.responses import JSONResponse
from pydantic import BaseModel

from embedmill.errors import (
    CatalogError,
    EmbedmillError,
    ModelError,
    Overloaded,
    ReleaseIncompatible,
    ReleaseMissing,
    RequestRefused,
    ServerUnavailable,
)
from embedmill.serving.observing.facts import facts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastapi.exceptions import RequestValidationError
    from starlette.exceptions import HTTPException
    from starlette.responses import Response

    from embedmill.types import Encoded

UNAUTHORIZED = 401
UNPROCESSABLE = 422
NO_OBJECT = frozenset({"missing", "model_type", "model_attributes_type"})
"""What pydantic calls a body that is none, or no object."""
JSON = "send a JSON object, with the header Content-Type: application/json"


class Said(BaseModel):
    """What went wrong: for programs, for people, and what to do."""

    code: str
    type: str
    message: str
    hint: str


class ErrorAnswer(BaseModel):
    """The body of every error, where a protocol has none of its own."""

    error: Said


def status_of(error: EmbedmillError) -> int:
    """The HTTP status of an error."""
    match error:
        case RequestRefused() | Overloaded():
            return error.status
        case ReleaseMissing():
            return 404
        case ReleaseIncompatible() | CatalogError():
            return 400
        case ServerUnavailable():
            return 503
        case ModelError():
            return 500
    return 500


def note_reason(error: EmbedmillError) -> None:
    """Note which limit a request met, for log and counters."""
    if isinstance(error, Overloaded | RequestRefused) and error.reason:
        facts().reason = error.reason


def headers_of(error: EmbedmillError) -> dict[str, str]:
    """Headers that belong to an error: when to ask again, and how to say who asks."""
    if status_of(error) == UNAUTHORIZED:
        return {"www-authenticate": "Bearer"}
    if isinstance(error, Overloaded):
        return {"retry-after": str(error.retry_after_s)}
    return {"retry-after": "1"} if isinstance(error, ServerUnavailable) else {}


def error_answer(error: EmbedmillError) -> Response:
    """`{"error": {"code", "message", "hint"}}`, which clients of OpenAI's API read as well."""
    body = {"code": error.code, "type": error.code, "message": error.message, "hint": error.hint}
    return JSONResponse({"error": body}, status_of(error), headers=headers_of(error))


def invalid(error: RequestValidationError, status: int = 400) -> RequestRefused:
    """The first thing that pydantic refuses, in words of who sends requests, and what to send."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        why, place = first["ctx"]["error"], first["loc"][-1]
        return RequestRefused(f"the body is no JSON: {why}, at character {place}", hint=JSON, status=status)
    if first["loc"] == ("body",) and first["type"] in NO_OBJECT:
        found = (
            "the body was not read as JSON" if isinstance(error.body, bytes) else "the body is no JSON object"
        )
        return RequestRefused(found if error.body is not None else "no body", hint=JSON, status=status)
    where = ".".join(str(part) for part in first["loc"] if part != "body")
    return RequestRefused(f"{where}: {first['msg']}" if where else str(first["msg"]), status=status)


def unreadable(error: HTTPException, status: int = 400) -> RequestRefused | None:
    """A body of which no JSON could be read, so that it came to no validation; None for all else."""
    match error.__cause__:
        case UnicodeDecodeError():
            why = "it is not UTF-8"
        case RecursionError():
            why = "it is nested too deep"
        case _:
            return None
    return RequestRefused(f"the body is no JSON: {why}", hint=JSON, status=status)


def refuse_rejected(
    encoded: Encoded, what: str = "input", places: Sequence[int] | None = None, alone: str = ""
) -> None:
    """An answer has all vectors or none.

    Raises:
        RequestRefused: A row could not be embedded; names the first, with the reason, by its place in the
            request where `places` has those, and as `alone` where the request has no other.
    """
    rejected: Mapping[int, object] = encoded.rejected
    for row in sorted(rejected):
        why = encoded.rejected[row]
        if alone:
            raise RequestRefused(f"{alone} cannot be used: {why.detail} ({why.reason})", status=UNPROCESSABLE)
        place = row if places is None else places[row]
        raise RequestRefused(
            f"{what} {place} could not be embedded: {why.reason}: {why.detail}", status=UNPROCESSABLE
        )
