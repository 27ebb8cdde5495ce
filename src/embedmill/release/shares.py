"""Which server's GPU did how much of a run: where loops were placed, and the commit records they made."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, TypeVar

from embedmill.spec.document import Document
from embedmill.spec.documents import CommitRecord, Plan, WorkerPlace
from embedmill.spec.reports import WorkerShare
from embedmill.store.cache import in_parallel

if TYPE_CHECKING:
    from embedmill.release.layout import Home
    from embedmill.types import Placement

PLACES = "places"
DocumentT = TypeVar("DocumentT", bound=Document)


def note_place(home: Home, run: str, place: Placement) -> None:
    """Write down where a loop is placed, if that is not this machine."""
    if place.host is not None:
        found = WorkerPlace(
            worker=place.worker, server=place.host.name, gpus=place.gpus, type=place.type, image=place.image
        )
        home.store.put(home.run_key(run, PLACES, f"{place.worker}.json"), found.to_bytes())


def worker_shares(home: Home, plan: Plan) -> tuple[WorkerShare, ...]:
    """What each loop did, those that did most first; nothing where all were on the machine of the run."""
    places = {place.worker: place for place in _read_all(home, plan.run, PLACES, WorkerPlace)}
    if not places:
        return ()
    records = defaultdict(list)
    for record in _read_all(home, plan.run, "commits", CommitRecord):
        records[record.worker].append(record)
    shares = [_share(worker, found, places.get(worker)) for worker, found in records.items()]
    return tuple(sorted(shares, key=lambda share: (-share.vectors, share.worker)))


def _share(worker: str, records: list[CommitRecord], place: WorkerPlace | None) -> WorkerShare:
    return WorkerShare(
        worker=worker,
        server=place.server if place else "",
        type=place.type if place else "",
        image=place.image if place else "",
        device=records[0].profile.device,
        shards=len(records),
        vectors=sum((record.vectors.rows or 0) if record.vectors else 0 for record in records),
        seconds=round(sum(record.seconds for record in records), 3),
    )


def _read_all(home: Home, run: str, folder: str, kind: type[DocumentT]) -> list[DocumentT]:
    keys = [info.key for info in home.store.list(home.run_key(run, folder))]
    return in_parallel(home.store, lambda key: home.read(kind, key), keys)
