"""Which loop did how much of a run, and when: what loops told of themselves, and their commit records."""

from __future__ import annotations

import json
from collections import defaultdict
from contextlib import suppress
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from embedmill.errors import ObjectMissing, StoreError
from embedmill.spec.document import written
from embedmill.spec.documents import CommitRecord, Lease, Plan
from embedmill.spec.loops import LoopState
from embedmill.spec.platform import RunWorkReport, ShardTime
from embedmill.spec.reports import WorkerShare
from embedmill.store.cache import in_parallel
from embedmill.types import STAGES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from embedmill.release.layout import Home
    from embedmill.store import ObjectInfo


def worker_shares(home: Home, plan: Plan) -> tuple[WorkerShare, ...]:
    """What each loop did, those that did most first; nothing where all were on the machine of the run."""
    told = _told(home, plan)
    if not any("host" in event for event in told.values()):
        return ()
    return _shares(_records(home, plan), told)


def loop_states(home: Home, plan: Plan) -> tuple[LoopState, ...]:
    """How busy the stages of each loop were, by name; loops that are older than stages are left out."""
    events = _events(home, plan)
    told = {worker: event for worker, (event, _) in events.items() if "stages" in event}
    signs = _signs_of_life(home, plan, events, _at_work(home, plan, told))
    now_s = home.world.now().timestamp()
    return tuple(
        LoopState(
            worker=worker,
            shard=event["shard"],
            bottleneck=event["bottleneck"],
            stages={stage: event["stages"].get(stage, 0.0) for stage in STAGES},
            queued=event["queued"],
            smaller=event.get("smaller", {}),
            silent_s=round(max(0.0, now_s - signs[worker]), 1) if worker in signs else None,
        )
        for worker, event in sorted(told.items())
    )


def _at_work(home: Home, plan: Plan, told: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """Who has a shard in hand that nobody committed by now."""
    if not any(map(_in_hand, told.values())):
        return set()
    done = {key.rsplit("/", 1)[1].removesuffix(".json") for key in _keys(home, plan, "commits")}
    return {worker for worker, event in told.items() if _in_hand(event) - done}


def _in_hand(event: Mapping[str, Any]) -> set[str]:
    """Shards that a loop told of: the one that it embeds, and those that wait to be written."""
    shard = event.get("shard")
    return {*([] if shard is None else [shard]), *event.get("unwritten", {})}


def _signs_of_life(
    home: Home, plan: Plan, events: Mapping[str, tuple[Mapping[str, Any], ObjectInfo]], workers: set[str]
) -> dict[str, float]:
    """When each last wrote its event or beat a lease, as far as the store tells."""
    infos = [(worker, events[worker][1]) for worker in workers]
    if workers:
        leases = list(home.store.list(home.run_key(plan.run, "leases")))
        holders = in_parallel(home.store, lambda info: _holder(home, info), leases)
        infos += [each for each in zip(holders, leases, strict=True) if each[0] in workers]
    signs: dict[str, float] = {}
    for worker, info in infos:
        if info.modified_s is not None:
            signs[worker] = max(info.modified_s, signs.get(worker, 0.0))
    return signs


def _holder(home: Home, info: ObjectInfo) -> str:
    """Whose a lease is; nobody's if it was given back meanwhile, or is damaged."""
    with suppress(ObjectMissing):
        data = home.store.get(info.key)
        with suppress(StoreError):
            return Lease.from_bytes(data, info.key).worker
    return ""


def run_work(home: Home, plan: Plan) -> RunWorkReport:
    """What all loops of a run did by now, and when."""
    records, told = _records(home, plan), _told(home, plan)
    shards = _times(records)
    return RunWorkReport(
        run=plan.run,
        pipeline=home.pipeline,
        began=_began(records),
        seconds=max((shard.begin_s + shard.seconds for shard in shards), default=0.0),
        shards_planned=len(plan.shards),
        rows=sum(shard.rows for shard in shards),
        vectors=sum(shard.vectors for shard in shards),
        workers=_shares(records, told),
        shards=shards,
    )


def _records(home: Home, plan: Plan) -> list[CommitRecord]:
    return in_parallel(home.store, lambda key: home.read(CommitRecord, key), _keys(home, plan, "commits"))


def _told(home: Home, plan: Plan) -> dict[str, Mapping[str, Any]]:
    """Events by worker; `host`, `gpu` and `image` are in those of other servers."""
    return {worker: event for worker, (event, _) in _events(home, plan).items()}


def _events(home: Home, plan: Plan) -> dict[str, tuple[Mapping[str, Any], ObjectInfo]]:
    infos = list(home.store.list(home.run_key(plan.run, "events")))
    texts = in_parallel(home.store, home.store.get, [info.key for info in infos])
    return {
        event["worker"]: (event, info)
        for text, info in zip(texts, infos, strict=True)
        if (event := json.loads(text))
    }


def _keys(home: Home, plan: Plan, folder: str) -> list[str]:
    return [info.key for info in home.store.list(home.run_key(plan.run, folder))]


def _shares(
    records: Sequence[CommitRecord], told: Mapping[str, Mapping[str, Any]]
) -> tuple[WorkerShare, ...]:
    by_worker: dict[str, list[CommitRecord]] = {worker: [] for worker in told}
    for record in records:
        by_worker.setdefault(record.worker, []).append(record)
    done, rows = {record.shard for record in records}, sum(record.rows for record in records)
    end_s = max((_end_s(record) for record in records), default=0.0)
    shares = [
        _share(worker, found, told.get(worker, {}), done=done, all_rows=rows, end_s=end_s)
        for worker, found in by_worker.items()
    ]
    return tuple(sorted(shares, key=lambda share: (-share.vectors, share.worker)))


def _share(
    worker: str,
    records: Sequence[CommitRecord],
    told: Mapping[str, Any],
    *,
    done: set[str],
    all_rows: int,
    end_s: float,
) -> WorkerShare:
    rows, seconds = sum(record.rows for record in records), sum(record.seconds for record in records)
    begin_s = min((_end_s(record) - record.seconds for record in records), default=end_s)
    return WorkerShare(
        worker=worker,
        server=told.get("host", ""),
        type=told.get("gpu", ""),
        image=told.get("image", ""),
        device=records[0].profile.device if records else "",
        shards=len(records),
        vectors=sum(map(_vectors, records)),
        seconds=round(seconds, 3),
        rows=rows,
        share=round(rows / all_rows, 4) if all_rows else 0.0,
        starts=told.get("starts", 0),
        yields=told.get("yields", 0),
        retries=max(0, told.get("attempts", 0) - len(records) - len(_in_hand(told) - done)),
        idle_s=round(max(0.0, end_s - begin_s - seconds), 3),
    )


def _times(records: Sequence[CommitRecord]) -> tuple[ShardTime, ...]:
    """In the order in which they began."""
    by_worker: dict[str, list[CommitRecord]] = defaultdict(list)
    for record in sorted(records, key=lambda record: (_end_s(record), record.shard)):
        by_worker[record.worker].append(record)
    began_s = min((_end_s(record) - record.seconds for record in records), default=0.0)
    times = [
        ShardTime(
            shard=record.shard,
            worker=worker,
            begin_s=round(begin_s - began_s, 3),
            seconds=record.seconds,
            rows=record.rows,
            vectors=_vectors(record),
        )
        for worker, found in by_worker.items()
        for record, begin_s in zip(found, _begins(found), strict=True)
    ]
    return tuple(sorted(times, key=lambda time: (time.begin_s, time.worker, time.shard)))


def _begins(records: Sequence[CommitRecord]) -> list[float]:
    """When each began; `created` has whole seconds, so that short ones are told apart by their lengths."""
    begins = [_end_s(record) - record.seconds for record in records]
    for place, (before, _) in enumerate(pairwise(records)):
        begins[place + 1] = max(begins[place + 1], begins[place] + before.seconds)
    return begins


def _began(records: Sequence[CommitRecord]) -> str | None:
    begins = [_end_s(record) - record.seconds for record in records]
    return written(datetime.fromtimestamp(min(begins), UTC)) if begins else None


def _end_s(record: CommitRecord) -> float:
    return datetime.fromisoformat(record.created).timestamp()


def _vectors(record: CommitRecord) -> int:
    return (record.vectors.rows or 0) if record.vectors else 0


def work_of(home: Home, run: str) -> RunWorkReport | None:
    """What the loops of a run did; None where its plan or a record was collected."""
    with suppress(ObjectMissing):
        return run_work(home, home.read(Plan, home.run_key(run, "plan.json")))
    return None
