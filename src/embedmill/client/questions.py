"""What may be asked, as steps that know nothing of sockets: both clients walk through the same ones.

Texts go to `/v1/embeddings`, whose base64 has float32 bit for bit; images and rows to TensorFlow Serving's
`:predict`, whose JSON has null, lists and base64 for what the catalog has.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import numpy as np

from embedmill.client.replies import document_of, source_of
from embedmill.client.values import Call, Embedded, Found, Inputs, Item, Source, Steps
from embedmill.errors import ReleaseMismatch, RequestRefused, ServerUnavailable
from embedmill.types import Hit, Vectors

AGAIN = 3
"""How often vectors are asked for once more, because a release was swapped in between."""
BATCH = 64
"""Inputs of one request: twice what a model gets at once by default."""

UNADDRESSED = (".", "..")
"""Ids that URLs lose on their way, however they are quoted: a body holds them."""


def embed(inputs: Inputs, encoder: str | None, batch: int) -> Steps[Embedded]:
    """Vectors of any number of inputs, all of one release.

    Raises:
        RequestRefused: They are no list, or the server refuses one.
        ReleaseMismatch: Releases were swapped each time that this was tried.
    """
    if not _is_list(inputs):
        raise RequestRefused("there is no list of inputs", hint='give a list: ["red shoes"]')
    for _ in range(AGAIN):
        release = yield from release_steps()
        model = f"{release['pipeline']}-{encoder or _default(inputs[0], release['encoders'])}"
        parts: list[Vectors] = []
        sources: set[Source] = set()
        for start in range(0, len(inputs), batch):
            vectors, source = yield from _part(inputs[start : start + batch], model)
            parts.append(vectors)
            sources.add(source)
        if len(sources) == 1:
            return Embedded(np.concatenate(parts), sources.pop())
    raise ReleaseMismatch(
        f"{' and '.join(sorted(source.release for source in sources))} answered in turn",
        hint="servers of one address serve several releases: ask again when the rollout is over",
    )


def _is_list(inputs: object) -> bool:
    """A text is a sequence of texts, too, and nobody means that."""
    return isinstance(inputs, Sequence) and not isinstance(inputs, str | bytes) and len(inputs) > 0


def release_steps() -> Steps[Mapping[str, Any]]:
    """What is served."""
    reply = yield Call("GET", "/release")
    document = document_of(reply)
    if isinstance(document, dict) and {"pipeline", "encoders"} <= set(document):
        return document
    raise ServerUnavailable("/release tells of no release", hint="is that an Embedmill server?")


def search(
    text: str | None, image: bytes | None, item: Any, vector: Any, k: int, more: Mapping[str, Any]
) -> Steps[Found]:
    """The items nearest to a query."""
    query: dict[str, Any] = {"k": k, **more}
    if text is not None:
        query["text"] = text
    if image is not None:
        query["image"] = base64.b64encode(image).decode("ascii")
    if item is not None:
        query["item"] = item
    if vector is not None:
        query["vector"] = np.asarray(vector, np.float32).tolist()
    reply = yield Call.post("/search", query)
    return Found(_hits(document_of(reply)), source_of(reply))


def item(key: Any) -> Steps[Item]:
    """An item by its id."""
    if key in UNADDRESSED:
        found = yield from search(None, None, key, None, 1, {"where": f"id = '{key}'"})
        return Item(found.hits[0].id, found.hits[0].fields, found.source)
    reply = yield Call("GET", f"/items/{quote(str(key), safe='')}")
    document = document_of(reply)
    if not isinstance(document, dict) or not {"id", "fields"} <= set(document):
        raise ServerUnavailable(f"/items/{key} tells of no item", hint="is that an Embedmill server?")
    return Item(document["id"], document["fields"], source_of(reply))


def similar(key: Any, k: int) -> Steps[Found]:
    """The items nearest to an item."""
    if key in UNADDRESSED:
        return (yield from search(None, None, key, None, k, {"where": f"id <> '{key}'"}))
    reply = yield Call("GET", f"/items/{quote(str(key), safe='')}/similar?k={k}")
    return Found(_hits(document_of(reply)), source_of(reply))


def _default(first: object, encoders: Mapping[str, Any]) -> str:
    """Encoders of queries for texts and images, where there are any."""
    of_query = (
        "query_text" if isinstance(first, str) else "query_image" if isinstance(first, bytes) else "item"
    )
    return of_query if of_query in encoders else "item"


def _part(inputs: Inputs, model: str) -> Steps[tuple[Vectors, Source]]:
    texts = all(isinstance(each, str) for each in inputs)
    if texts:
        reply = yield Call.post(
            "/v1/embeddings", {"model": model, "input": list(inputs), "encoding_format": "base64"}
        )
        vectors = _unpacked(document_of(reply)["data"])
    else:
        reply = yield Call.post(
            f"/v1/models/{quote(model)}:predict", {"instances": list(map(_coded, inputs))}
        )
        vectors = np.array(document_of(reply)["predictions"], np.float32)
    if len(vectors) != len(inputs):
        raise ServerUnavailable(f"{len(vectors)} vectors came for {len(inputs)} inputs")
    return vectors, source_of(reply)


def _unpacked(data: Sequence[Mapping[str, Any]]) -> Vectors:
    raw = b"".join(base64.b64decode(each["embedding"]) for each in data)
    vectors: Vectors = np.frombuffer(raw, "<f4").astype(np.float32).reshape(len(data), -1)
    return vectors


def _coded(value: Any) -> Any:
    """JSON of a value: bytes in base64, also within a row."""
    if isinstance(value, bytes | bytearray | memoryview):
        return {"b64": base64.b64encode(value).decode()}
    if isinstance(value, Mapping):
        return {name: _coded(each) for name, each in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return value


def _hits(document: Mapping[str, Any]) -> tuple[Hit, ...]:
    return tuple(Hit(hit["id"], hit["score"], hit["fields"]) for hit in document["hits"])
