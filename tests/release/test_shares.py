"""The report of a run: who did what, what was tried in vain, and who waited."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import pytest
from tests.support.mill import Mill, items

from embedmill.errors import Yielded
from embedmill.planned import PlannedRun
from embedmill.release.draining import call_back, send_away, undrain
from embedmill.release.shares import loop_states, run_work, worker_shares
from embedmill.release.timeline import MOST_BARS, timeline
from embedmill.runtimes.onnx import OnnxRuntime
from embedmill.spec.platform import RunWorkReport, ShardTime
from embedmill.spec.reports import WorkerShare
from embedmill.types import Vectors
from embedmill.work import WorkerOptions, work

NOBODY = 2**22 + 1
"""A process id that Linux never gives."""


@pytest.fixture
def run(mill: Mill) -> PlannedRun:
    mill.settings = {"work": {"shard_rows": 10, "batch_tokens": 16}}
    return mill.planned(items(60))


def share_of(run: PlannedRun, worker: str) -> WorkerShare:
    return next(share for share in run_work(run.home, run.plan).workers if share.worker == worker)


def test_a_worker_that_is_sent_away_finishes_its_shard_and_yields_once(run: PlannedRun) -> None:
    send_away(run.home, run.plan.run, "a")
    for _ in range(2):
        with pytest.raises(Yielded, match="worker a was asked to stop: its place is another's"):
            work(run.home, run.plan.run, WorkerOptions("a"))
    share = share_of(run, "a")
    assert (share.shards, share.starts, share.yields, share.retries) == (2, 2, 2, 0)
    call_back(run.home, run.plan.run, "a")
    work(run.home, run.plan.run, WorkerOptions("a"))
    assert (share_of(run, "a").shards, share_of(run, "a").starts) == (len(run.plan.shards), 3)


def test_going_on_with_a_run_calls_everybody_back(run: PlannedRun) -> None:
    send_away(run.home, run.plan.run, "a")
    undrain(run.home, run.plan.run)
    assert work(run.home, run.plan.run, WorkerOptions("a")).shards == len(run.plan.shards)


def test_an_attempt_that_was_interrupted_is_a_retry(mill: Mill, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its parent is gone, which it sees half a second after it began; the shard has hundreds of batches."""
    mill.settings = {"work": {"shard_rows": 9000, "batch_tokens": 16}}
    run, compute = mill.planned(items(2000)), OnnxRuntime.run

    def slowly(runtime: OnnxRuntime, feeds: Mapping[str, Any]) -> Vectors:
        time.sleep(0.1)
        return compute(runtime, feeds)

    with monkeypatch.context() as slow:
        slow.setattr(OnnxRuntime, "run", slowly)
        with pytest.raises(Yielded):
            work(run.home, run.plan.run, WorkerOptions("a", parent=NOBODY))
    work(run.home, run.plan.run, WorkerOptions("b"))
    a, b = share_of(run, "a"), share_of(run, "b")
    assert (a.starts, a.yields, a.retries, a.shards, a.share) == (1, 1, 1, 0, 0.0)
    assert (b.starts, b.yields, b.retries, b.shards, b.share) == (1, 0, 0, 1, 1.0)
    assert (b.rows, b.vectors) == (2000, 2000)


def test_what_was_done_here_is_no_news_of_a_run_but_is_in_its_report(run: PlannedRun) -> None:
    work(run.home, run.plan.run, WorkerOptions("a"))
    assert worker_shares(run.home, run.plan) == ()
    report = run_work(run.home, run.plan)
    assert (report.rows, report.vectors, report.shards_planned) == (60, 60, len(report.shards))
    ends = [0.0]
    for shard in report.shards:
        assert shard.begin_s >= ends[-1] - 0.01, "one after the other"
        ends.append(shard.begin_s + shard.seconds)
    assert report.seconds == pytest.approx(ends[-1])


@pytest.mark.parametrize("in_hand", [{"shard": "00000"}, {"shard": None, "unwritten": {"00000": 5}}])
def test_a_loop_is_not_silent_about_a_shard_that_another_committed(
    run: PlannedRun, in_hand: dict[str, Any]
) -> None:
    event = {"worker": "dead", "stages": {}, "queued": {}, "bottleneck": "", "shard_done": 5}
    data = json.dumps({**event, **in_hand}).encode()
    run.home.store.put(run.home.run_key(run.plan.run, "events", "dead.json"), data)
    assert silence_of(run, "dead") is not None
    work(run.home, run.plan.run, WorkerOptions("a"))
    assert silence_of(run, "dead") is None


def silence_of(run: PlannedRun, worker: str) -> float | None:
    return next(loop.silent_s for loop in loop_states(run.home, run.plan) if loop.worker == worker)


def test_a_page_stays_small_however_many_shards_there_are() -> None:
    count = 20 * MOST_BARS
    shards = tuple(
        ShardTime(shard=f"{n}", worker="<w>", begin_s=n, seconds=0.9, rows=1, vectors=1) for n in range(count)
    )
    worker = WorkerShare(
        worker="<w>", server="", type="", image="", device="cpu", shards=count, vectors=count, seconds=1.0
    )
    work = RunWorkReport(
        run="r",
        pipeline="p",
        began=None,
        seconds=float(count),
        shards_planned=count,
        rows=count,
        vectors=count,
        workers=(worker,),
        shards=shards,
    )
    drawn = timeline(work)
    assert 100 < drawn.count("<rect") < 900
    assert "<w>" not in drawn
    assert f"Shards over workers: {count:,} over 1" in drawn
