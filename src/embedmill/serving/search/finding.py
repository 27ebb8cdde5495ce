"""Searches of requests, in the release's search threads: the event loop has others to serve meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from embedmill.errors import RequestRefused, SpecError
from embedmill.serving.search.pictures import picture_of
from embedmill.types import Hit

if TYPE_CHECKING:
    from embedmill.serving.served import Served
    from embedmill.spec import ServingSpec
    from embedmill.types import Mask, Vectors

T = TypeVar("T")
TOO_LARGE = 413


@dataclass(frozen=True)
class Wanted:
    """One search: by a vector float32[D], or by the vector of an item."""

    vector: Vectors | None
    item: str | int | None = None
    k: int = 10
    where: str | None = None
    lowest: float | None = None
    itself: bool = True
    """Whether the item may be among its own hits."""


async def find(served: Served, searches: Sequence[Wanted], limits: ServingSpec) -> list[list[Hit]]:
    """The hits of each search.

    Raises:
        RequestRefused: `k` is too large, or `where` is too long or no filter of the release's fields.
        ReleaseMissing: No item has that id.
        ReleaseIncompatible: A vector has another length than those of the release.
    """
    for search in searches:
        if search.k > limits.max_hits:
            raise RequestRefused(f"k is {search.k}", hint=f"at most {limits.max_hits}")
        _check_length(search.where, limits)
    return await in_search_thread(served, lambda: [_hits(served, search) for search in searches])


async def in_search_thread(served: Served, work: Callable[[], T]) -> T:
    """Run something that takes long in one of the release's threads."""
    return await served.searching.run(work)


def chosen_fields(fields: Mapping[str, Any], names: Sequence[str] | None) -> Mapping[str, Any]:
    """Those fields of an item that were asked for; without a choice all but pictures, which have an address.

    Raises:
        RequestRefused: The release does not show one of them.
    """
    if names is None:
        return {name: value for name, value in fields.items() if picture_of([value]) is None}
    for name in names:
        if name not in fields:
            raise RequestRefused(f"no field {name!r}", hint=f"items show: {', '.join(fields) or 'none'}")
    return {name: fields[name] for name in names}


def _check_length(where: str | None, limits: ServingSpec) -> None:
    """Parsing a filter of megabytes takes minutes, which nothing stops, and all searches wait meanwhile."""
    if where is not None and len(where) > limits.max_characters:
        raise RequestRefused(
            f"where has {len(where)} characters",
            hint=f"at most {limits.max_characters}",
            status=TOO_LARGE,
            reason="characters",
        )


def _hits(served: Served, search: Wanted) -> list[Hit]:
    searcher = served.release.searcher
    vector = search.vector if search.vector is not None else searcher.vector_of(search.item)
    among = None if search.where is None else _among(served, search.where)
    if search.itself:
        return searcher.hits(vector, search.k, among=among, lowest=search.lowest)
    own = searcher.item(search.item)["id"]
    found = searcher.hits(vector, search.k + 1, among=among, lowest=search.lowest)
    return [hit for hit in found if hit.id != own][: search.k]


def _among(served: Served, where: str) -> Mask:
    try:
        return served.filters.mask(where)
    except SpecError as error:
        raise RequestRefused(error.message, hint=error.hint) from None
