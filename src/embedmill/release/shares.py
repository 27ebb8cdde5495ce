"""Which server's GPU did how much of a run: what loops told of their places, and their commit records."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING

from embedmill.spec.documents import CommitRecord, Plan
from embedmill.spec.reports import WorkerShare
from embedmill.store.cache import in_parallel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from embedmill.release.layout import Home


def worker_shares(home: Home, plan: Plan) -> tuple[WorkerShare, ...]:
    """What each loop did, those that did most first; nothing where all were on the machine of the run."""
    places = _places(home, plan)
    if not places:
        return ()
    records = defaultdict(list)
    for record in in_parallel(
        home.store, lambda key: home.read(CommitRecord, key), _keys(home, plan, "commits")
    ):
        records[record.worker].append(record)
    shares = [_share(worker, found, places.get(worker, {})) for worker, found in records.items()]
    return tuple(sorted(shares, key=lambda share: (-share.vectors, share.worker)))


def _places(home: Home, plan: Plan) -> dict[str, Mapping[str, str]]:
    """What loops on other servers told of where they are: `host`, `gpu` and `image`."""
    texts = in_parallel(home.store, home.store.get, _keys(home, plan, "events"))
    events = [event for text in texts if "host" in (event := json.loads(text))]
    return {event["worker"]: event for event in events}


def _keys(home: Home, plan: Plan, folder: str) -> list[str]:
    return [info.key for info in home.store.list(home.run_key(plan.run, folder))]


def _share(worker: str, records: list[CommitRecord], place: Mapping[str, str]) -> WorkerShare:
    return WorkerShare(
        worker=worker,
        server=place.get("host", ""),
        type=place.get("gpu", ""),
        image=place.get("image", ""),
        device=records[0].profile.device,
        shards=len(records),
        vectors=sum((record.vectors.rows or 0) if record.vectors else 0 for record in records),
        seconds=round(sum(record.seconds for record in records), 3),
    )
