"""`/search`: the items of the release that are nearest to a text, an image, an item or a vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from fastapi import APIRouter, File, Form, UploadFile
from pydantic import BaseModel, Field, FiniteFloat

from embedmill.errors import RequestRefused
from embedmill.serving.answers import refuse_rejected
from embedmill.serving.depends import Answering, TheServer
from embedmill.serving.requests.embedding import refuse_empty
from embedmill.serving.requests.rows import bytes_of, image_rows, text_rows
from embedmill.serving.requests.strict import Each, StrictBody
from embedmill.serving.search.finding import Wanted, chosen_fields, find
from embedmill.spec.reports import jsonable

if TYPE_CHECKING:
    import pyarrow as pa

    from embedmill.serving.lanes.lane import Lane
    from embedmill.serving.served import Served
    from embedmill.spec import ServingSpec
    from embedmill.types import Hit, Vectors

router = APIRouter(tags=["search"])

Hits = Annotated[int, Field(ge=1, description="How many hits.")]
Where = Annotated[
    str | None,
    Field(
        description="A filter over shown fields, in SQL's WHERE syntax: `price < 20 AND category = 'shoes'`."
    ),
]
Lowest = Annotated[FiniteFloat | None, Field(description="Hits with a lower score are left out.")]
Fields = Annotated[Each[str] | None, Field(description="The fields to show; all but pictures if absent.")]


class Options(StrictBody):
    """What every search may ask for."""

    k: Hits = 10
    where: Where = None
    min_score: Lowest = None
    fields: Fields = None


class SearchRequest(Options):
    """One query: a text, an image (base64), an item's id, or a vector."""

    text: str | None = None
    image: str | None = None
    item: str | int | None = None
    vector: Each[FiniteFloat] | None = None


class BatchRequest(StrictBody):
    """Several queries."""

    queries: Annotated[Each[SearchRequest], Field(min_length=1)]


class HitAnswer(BaseModel):
    """An item that was found, with the fields that the pipeline shows."""

    id: Any
    score: float
    fields: dict[str, Any]


class FromRelease(BaseModel):
    """The release that an answer is from."""

    release: str
    number: int | None
    model: Annotated[str, Field(description="Digest of the model package.")]


class SearchAnswer(FromRelease):
    """Hits, the nearest first."""

    hits: list[HitAnswer]


class BatchAnswer(FromRelease):
    """Hits of each query, in the order of the queries."""

    results: list[list[HitAnswer]]


@router.post("/search")
async def search(query: SearchRequest, served: Answering, server: TheServer) -> SearchAnswer:
    """The items that are nearest to a text, an image, an item, or a vector."""
    (hits,) = await _search([query], served, server.limits, alone=True)
    return SearchAnswer(**from_release(served), hits=hits)


@router.post("/search/batch")
async def search_batch(batch: BatchRequest, served: Answering, server: TheServer) -> BatchAnswer:
    """Several searches in one request; all are answered, or none."""
    if len(batch.queries) > server.limits.max_inputs:
        raise RequestRefused(f"{len(batch.queries)} queries", hint=f"at most {server.limits.max_inputs}")
    return BatchAnswer(**from_release(served), results=await _search(batch.queries, served, server.limits))


@router.post("/search/image")
async def search_image(
    served: Answering,
    server: TheServer,
    file: Annotated[UploadFile, File(description="An image: JPEG, PNG, WebP, …")],
    k: Annotated[int, Form(ge=1)] = 10,
    where: Annotated[str | None, Form()] = None,
    min_score: Annotated[FiniteFloat | None, Form()] = None,
) -> SearchAnswer:
    """The items that are nearest to an image, uploaded as a form."""
    lane = image_lane(served)
    vectors = await _embedded(lane, image_rows(lane.encoder, [await file.read()]), [0], "the image")
    options = Options(k=k, where=where, min_score=min_score)
    (hits,) = await _found([options], list(vectors), served, server.limits)
    return SearchAnswer(**from_release(served), hits=hits)


async def _search(
    queries: Sequence[SearchRequest], served: Served, limits: ServingSpec, *, alone: bool = False
) -> list[list[HitAnswer]]:
    for query in queries:
        given = [each for each in (query.text, query.image, query.item, query.vector) if each is not None]
        if len(given) != 1:
            raise RequestRefused(f"found {len(given)} queries", hint="give one of text, image, item, vector")
    vectors = [None if query.vector is None else _given(query.vector) for query in queries]
    texts = [place for place, query in enumerate(queries) if query.text is not None]
    if texts:
        lane = text_lane(served)
        rows = text_rows(lane.encoder, [queries[place].text or "" for place in texts])
        _put(vectors, texts, await _embedded(lane, rows, texts, "the text" if alone else ""))
    images = [place for place, query in enumerate(queries) if query.image is not None]
    if images:
        lane = image_lane(served)
        files = [bytes_of(queries[place].image, "image") for place in images]
        rows = image_rows(lane.encoder, files)
        _put(vectors, images, await _embedded(lane, rows, images, "the image" if alone else ""))
    return await _found(queries, vectors, served, limits)


def _given(vector: Sequence[float]) -> Vectors:
    with np.errstate(over="ignore"):
        found: Vectors = np.asarray(vector, np.float32)
    if not np.isfinite(found).all():
        raise RequestRefused("the vector has a value that is not finite, or none in float32")
    return found


def _put(vectors: list[Vectors | None], places: Sequence[int], found_ND: Vectors) -> None:
    for place, vector in zip(places, found_ND, strict=True):
        vectors[place] = vector


async def _embedded(lane: Lane, rows: pa.RecordBatch, places: Sequence[int], alone: str = "") -> Vectors:
    """The vectors of rows that are queries at these places of the request: float32[N, D].

    `alone`: what people call the only query of a request.
    """
    refuse_empty(lane.encoder, rows, "query", places, alone)
    encoded = await lane.embed(rows)
    refuse_rejected(encoded, "query", places, alone)
    return encoded.vectors_ND


async def _found(
    queries: Sequence[Options], vectors: Sequence[Vectors | None], served: Served, limits: ServingSpec
) -> list[list[HitAnswer]]:
    wanted = [
        Wanted(
            vector=vector,
            item=query.item if isinstance(query, SearchRequest) else None,
            k=query.k,
            where=query.where,
            lowest=query.min_score,
        )
        for query, vector in zip(queries, vectors, strict=True)
    ]
    found = await find(served, wanted, limits)
    return [hit_answers(hits, query.fields) for query, hits in zip(queries, found, strict=True)]


def text_lane(served: Served) -> Lane:
    """The lane that embeds texts of queries.

    Raises:
        RequestRefused: The model embeds no text by itself.
    """
    return _query_lane(served, served.text_encoder, "a text")


def image_lane(served: Served) -> Lane:
    """The lane that embeds images of queries.

    Raises:
        RequestRefused: The model embeds no image by itself.
    """
    return _query_lane(served, served.image_encoder, "an image")


def _query_lane(served: Served, encoder: str | None, what: str) -> Lane:
    if encoder is None:
        raise RequestRefused(
            f"release {served.release.name}: its model embeds no query that is {what}",
            hint=f"it has: {', '.join(served.lanes)}",
        )
    return served.lane(encoder)


def from_release(served: Served) -> dict[str, Any]:
    """The release that an answer is from, as `FromRelease` has it."""
    release = served.release
    return {"release": release.name, "number": release.number, "model": served.package_digest}


def hit_answers(hits: Sequence[Hit], fields: Sequence[str] | None) -> list[HitAnswer]:
    """Hits with the fields that were asked for, as JSON."""
    return [
        HitAnswer(id=jsonable(hit.id), score=hit.score, fields=jsonable(chosen_fields(hit.fields, fields)))
        for hit in hits
    ]
