"""`/search`, `/items/{id}`, `/items/{id}/similar`: items of the release."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import numpy as np
from fastapi import APIRouter
from pydantic import BaseModel, Field

from embedmill.errors import RequestRefused
from embedmill.serving.answers import refuse_rejected
from embedmill.serving.depends import Answering, TheServer
from embedmill.serving.rows import text_rows
from embedmill.serving.served import Served
from embedmill.serving.strict import Each, StrictBody
from embedmill.spec.reports import jsonable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedmill.types import Hit, Vectors

router = APIRouter(tags=["search"])
T = TypeVar("T")
K = Annotated[int, Field(ge=1, description="How many hits.")]


class SearchRequest(StrictBody):
    """One query: a text, an item's id, or a vector."""

    text: str | None = None
    item: str | int | None = None
    vector: Each[float] | None = None
    k: K = 10


class HitAnswer(BaseModel):
    """An item that was found, with the fields that the pipeline shows."""

    id: Any
    score: float
    fields: dict[str, Any]


class SearchAnswer(BaseModel):
    """Hits, the nearest first, and the release that they are from."""

    release: str
    number: int | None
    model: str
    hits: list[HitAnswer]


@router.post("/search")
async def search(query: SearchRequest, served: Answering, server: TheServer) -> SearchAnswer:
    """The items that are nearest to a query."""
    if query.k > server.limits.max_hits:
        raise RequestRefused(f"k is {query.k}", hint=f"at most {server.limits.max_hits}")
    given = [value for value in (query.text, query.item, query.vector) if value is not None]
    if len(given) != 1:
        raise RequestRefused(f"found {len(given)} queries", hint="give one of text, item, vector")
    vector = await _vector(query, served)
    found = await in_search_thread(
        served, lambda: served.release.search(vector=vector, item=query.item, k=query.k)
    )
    return answer(served, found)


async def _vector(query: SearchRequest, served: Served) -> Vectors | None:
    if query.vector is not None:
        with np.errstate(over="ignore"):
            asked: Vectors = np.asarray(query.vector, dtype=np.float32)
        if not np.isfinite(asked).all():
            raise RequestRefused("the vector has a value that is not finite, or none in float32")
        return asked
    if query.text is None:
        return None
    lane = served.lane("query_text")
    encoded = await lane.embed(text_rows(lane.encoder, [query.text]))
    refuse_rejected(encoded)
    vector: Vectors = encoded.vectors_ND[0]
    return vector


async def in_search_thread(served: Served, work: Callable[[], T]) -> T:
    """Search in one of the release's threads: it takes long, and the event loop has others to serve."""
    return await asyncio.get_running_loop().run_in_executor(served.searching, work)


def answer(served: Served, hits: Sequence[Hit]) -> SearchAnswer:
    """Hits with the release that they are from."""
    found = [HitAnswer(id=jsonable(hit.id), score=hit.score, fields=jsonable(hit.fields)) for hit in hits]
    return SearchAnswer(
        release=served.release.name, number=served.release.number, model=served.package_digest, hits=found
    )
