"""`/items/{id}`: one item of the release, its picture, and what is like it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query
from pydantic import FiniteFloat
from starlette.responses import Response

from embedmill.errors import ReleaseMissing
from embedmill.serving.addresses import ItemId
from embedmill.serving.depends import Answering, TheServer
from embedmill.serving.routes.search import FromRelease, SearchAnswer, from_release, hit_answers
from embedmill.serving.search.finding import Wanted, chosen_fields, find, in_search_thread
from embedmill.serving.search.pictures import picture_of
from embedmill.spec.reports import jsonable

if TYPE_CHECKING:
    from embedmill.release.reader import Release
    from embedmill.serving.served import Served

router = APIRouter(tags=["items"])


class ItemAnswer(FromRelease):
    """One item, with the fields that the pipeline shows."""

    id: Any
    fields: dict[str, Any]


@router.get("/items/{id:path}/similar")
async def similar(
    id: ItemId,  # noqa: A002 - its name in the address
    served: Answering,
    server: TheServer,
    k: Annotated[int, Query(ge=1)] = 10,
    where: str | None = None,
    min_score: FiniteFloat | None = None,
) -> SearchAnswer:
    """The items that are nearest to an item, itself left out."""
    wanted = Wanted(None, item=id, k=k, where=where, lowest=min_score, itself=False)
    (hits,) = await find(served, [wanted], server.limits)
    return SearchAnswer(**from_release(served), hits=hit_answers(hits, None))


@router.get("/items/{id:path}/picture", response_class=Response)
async def picture(id: ItemId, served: Answering) -> Response:  # noqa: A002
    """The item's picture: its thumbnail, or the first of its fields that is an image file."""
    found = await in_search_thread(served, lambda: _picture(served.release, id))
    if found is None:
        raise ReleaseMissing(f"item {id!r} of release {served.release.name} has no picture")
    kind, data = found
    return Response(data, media_type=kind, headers={"cache-control": "public, max-age=60"})


@router.get("/items/{id:path}")
async def item(id: ItemId, served: Answering) -> ItemAnswer:  # noqa: A002
    """One item."""
    values = await _item(served, id)
    return ItemAnswer(
        **from_release(served),
        id=jsonable(values.pop("id")),
        fields=jsonable(chosen_fields(values, None)),
    )


def _picture(release: Release, item_id: str) -> tuple[str, bytes] | None:
    """The thumbnail, or the first field that is an image file."""
    thumbnail = release.thumbnail(item_id)
    shown = [] if thumbnail is None else [thumbnail]
    return picture_of([*shown, *release.searcher.item(item_id).values()])


async def _item(served: Served, item_id: str) -> dict[str, Any]:
    return await in_search_thread(served, lambda: served.release.searcher.item(item_id))
