"""OpenAI's embeddings API: texts in, vectors out. https://platform.openai.com/docs/api-reference/embeddings"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from embedmill.errors import ModelError
from embedmill.runtimes.remote.base import Feeds, NotThere, as_bytes, one_line, rows_of
from embedmill.runtimes.remote.fields.base import Asked, Refusal, Told, digits_bytes, labels_of
from embedmill.runtimes.remote.fields.oip import refusal_of
from embedmill.runtimes.remote.http import HttpServer, parse_json

PATH = "/v1/embeddings"
HEADERS: Mapping[str, str] = {"Content-Type": "application/json"}


class OpenAiFields:
    """A server that speaks OpenAI's API; see `FieldServer`. Its models read one text."""

    VERSIONED = False

    def __init__(self, http: HttpServer, *, said_by: str) -> None:
        """Connect to nothing yet."""
        self._http, self._said_by = http, said_by
        self._labels: Mapping[str, str] = {}

    async def describe(self, asked: Asked) -> Told:
        """Ask for the list of models: the API has no more to say of one."""
        answer = await self._http.ask("GET", "/v1/models", limit_bytes=1024 * 1024)
        try:
            names = [str(each["id"]) for each in parse_json(answer.body, said_by=self._said_by)["data"]]
        except (KeyError, TypeError) as error:
            raise ModelError(f"{self._said_by}: its list of models cannot be read: {error!r}") from error
        if asked.model not in names:
            has = one_line(", ".join(names))
            raise NotThere(f"{self._said_by}: has no model {asked.model!r}", hint=f"it has: {has}")
        self._labels = labels_of(answer.headers)
        return Told(labels=self._labels)

    async def embed(self, asked: Asked, tensors: Feeds) -> npt.NDArray[Any]:
        """Embed the texts of the only tensor."""
        limit_bytes = digits_bytes(rows_of(tensors), asked.output)
        answer = await self._http.ask(
            "POST", PATH, body=_request(asked, tensors), headers=HEADERS, limit_bytes=limit_bytes
        )
        self._check_same(labels_of(answer.headers))
        document = parse_json(answer.body, said_by=self._said_by)
        try:
            if document["model"] != asked.model:
                raise ModelError(f"{self._said_by}: {document['model']!r} answered for {asked.model!r}")
            places = [int(each["index"]) for each in document["data"]]
            vectors = np.array([each["embedding"] for each in document["data"]], np.float32)
            if sorted(places) != list(range(len(places))):
                raise ValueError(f"the indices {places[:8]}")
            return vectors[np.argsort(places)]
        except (KeyError, TypeError, ValueError) as error:
            words = one_line(repr(error))
            raise ModelError(f"{self._said_by}: answered no list of embeddings: {words}") from error

    def _check_same(self, labels: Mapping[str, str]) -> None:
        """No request names a version: a balancer may pass it to a server of another release."""
        for name, before in self._labels.items():
            if labels.get(name, before) != before:
                raise ModelError(
                    f"{self._said_by}: answered with {name} {labels[name]}, and with {before} "
                    "before: several servers are behind it, or it went over to another release"
                )

    async def refusal(self, asked: Asked, tensors: Feeds) -> Refusal | None:
        """Send a request, and see what is said of it."""
        limit_bytes = digits_bytes(rows_of(tensors), asked.output)
        found = await self._http.exchange(
            "POST", PATH, body=_request(asked, tensors), headers=HEADERS, limit_bytes=limit_bytes
        )
        return refusal_of(found, dict)

    async def close(self) -> None:
        """Close connections."""
        await self._http.close()


def _request(asked: Asked, tensors: Feeds) -> bytes:
    (texts,) = tensors.values()
    document: dict[str, Any] = {
        "model": asked.model,
        "input": [each.decode(errors="surrogateescape") for each in as_bytes(texts).ravel()],
        "encoding_format": "float",
    }
    return json.dumps(document).encode()
