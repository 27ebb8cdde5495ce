"""What a reply says: a document and where it is from, or an error of ours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from embedmill.client.values import Reply, Source
from embedmill.errors import (
    EmbedmillError,
    Overloaded,
    ReleaseMismatch,
    RequestRefused,
    ServerUnavailable,
)

PASSING = frozenset({429, 502, 503, 504})
"""Statuses that say: not now."""
TOO_MANY, ERROR = 429, 400
LONGEST = 500
"""Characters that are told of an answer that is none of ours."""


def document_of(reply: Reply) -> Any:
    """The JSON of an answer.

    Raises:
        RequestRefused: The server refused.
        Overloaded: It has too much to do.
        ServerUnavailable: It does not answer now, or what it answered is no JSON.
    """
    if reply.status >= ERROR:
        raise error_of(reply)
    try:
        return json.loads(reply.body)
    except ValueError:
        raise ServerUnavailable(
            f"the answer is no JSON: {_text(reply)}", hint="is that an Embedmill server?"
        ) from None


def error_of(reply: Reply) -> EmbedmillError:
    """The error that an answer is."""
    said = f"{reply.status}: {_said(reply)}"
    if reply.status == TOO_MANY:
        return Overloaded(said, retry_after_s=retry_after_s(reply) or 1)
    if reply.status in PASSING:
        return ServerUnavailable(said)
    return RequestRefused(said, status=reply.status)


def retry_after_s(reply: Reply) -> int | None:
    """When to ask again, if the reply says so in seconds."""
    said = reply.headers.get("retry-after", "")
    return int(said) if said.isascii() and said.isdigit() and len(said) <= len(str(10**6)) else None


def source_of(reply: Reply) -> Source:
    """The release that an answer is from.

    Raises:
        ServerUnavailable: It names none.
    """
    try:
        number = reply.headers["embedmill-release-number"]
        return Source(
            reply.headers["embedmill-release"],
            int(number) if number else None,
            reply.headers["embedmill-model"],
        )
    except (KeyError, ValueError):
        raise ServerUnavailable(
            "the answer names no release", hint="is that an Embedmill server, and does a proxy drop headers?"
        ) from None


def check_source(source: Source, release: str | int | None, model: str | None) -> None:
    """Fail unless an answer is from the release, by name or number, and the model that are expected.

    Raises:
        ReleaseMismatch: It is from another.
    """
    if release is not None and release not in {source.release, source.number}:
        raise ReleaseMismatch(
            f"release {source.release}, number {source.number}, answered, and {release} was expected",
            hint="another release is live, or another server answers at this address",
        )
    if model is not None and model != source.model:
        raise ReleaseMismatch(
            f"release {source.release} has the model {source.model}, and {model} was expected",
            hint="vectors of two models must never be mixed",
        )


def _said(reply: Reply) -> str:
    """The words of an error, in the shape of any of the protocols."""
    try:
        error = json.loads(reply.body)["error"]
        if not isinstance(error, Mapping):
            return str(error)
        hint = error.get("hint")
        return f"{error['message']} ({hint})" if hint else str(error["message"])
    except (ValueError, KeyError, TypeError):
        return _text(reply)


def _text(reply: Reply) -> str:
    return " ".join(reply.body.decode(errors="replace").split())[:LONGEST]
