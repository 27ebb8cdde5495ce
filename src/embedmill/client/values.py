"""What clients send, get and give."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from embedmill.types import Hit, Vectors

Inputs: TypeAlias = Sequence[str] | Sequence[bytes] | Sequence[Mapping[str, Any]]
"""Texts, image files, or rows: a mapping of fields each."""
T = TypeVar("T")


@dataclass(frozen=True)
class Source:
    """The release that an answer is from, its number in the log, and the digest of its model package."""

    release: str
    number: int | None
    model: str


@dataclass(frozen=True)
class Embedded:
    """Vectors of N inputs, float32[N, D], in order; all of one release."""

    vectors_ND: Vectors
    source: Source


@dataclass(frozen=True)
class Found:
    """Hits, the nearest first."""

    hits: tuple[Hit, ...]
    source: Source


@dataclass(frozen=True)
class Item:
    """An item of the release, with the fields that its pipeline shows."""

    id: Any
    fields: Mapping[str, Any]
    source: Source


@dataclass(frozen=True)
class Call:
    """One request."""

    method: str
    path: str
    body: bytes | None = None

    @classmethod
    def post(cls, path: str, document: Any) -> Call:
        """A request with a JSON body."""
        return cls("POST", path, json.dumps(document).encode())


@dataclass(frozen=True)
class Reply:
    """One answer; `headers` by lower-case name."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


Steps: TypeAlias = Generator[Call, Reply, T]
"""A question as the requests that it takes: gives each, gets its reply, and returns what was asked."""
