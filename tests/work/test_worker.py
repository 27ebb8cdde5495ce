"""The worker loop: every shard is committed once, whoever dies, yields, lies or comes late."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.support.mill import POISON, Mill, items, poisonable_package
from tests.support.patience import PATIENCE_S, until
from tests.support.stock import Stock

from embedmill.digest import digest_list
from embedmill.errors import ReleaseCorrupt, RunClosed, RunMissing, StoreError, Yielded
from embedmill.planned import PlannedRun
from embedmill.release.layout import Home
from embedmill.release.runs import terminal_of
from embedmill.release.vectors import VectorPart
from embedmill.spec.documents import CommitRecord, Lease
from embedmill.store import LocalPaths
from embedmill.store.base import Body
from embedmill.store.local import LocalStore
from embedmill.work import WorkerOptions, work
from embedmill.work.heartbeat import Heartbeat
from embedmill.work.leases import Leases, process_start
from embedmill.world import World


def planned(mill: Mill, count: int, shard_rows: int) -> PlannedRun:
    mill.settings = {"work": {"shard_rows": shard_rows}}
    return mill.planned(items(count))


def commits(run: PlannedRun) -> dict[str, CommitRecord]:
    keys = [info.key for info in run.home.store.list(run.home.run_key(run.plan.run, "commits"))]
    records = [run.home.read(CommitRecord, key) for key in keys]
    return {record.shard: record for record in records}


def vector_files(run: PlannedRun) -> set[str]:
    return {info.key for info in run.home.store.list(run.home.release_key(run.plan.run, "vectors"))}


def file_of(run: PlannedRun, key: str) -> Path:
    assert isinstance(run.home.store, LocalPaths)
    return run.home.store.path(key)


def test_lanes_of_a_loop_move_no_bit_and_the_seconds_of_each_count(mill: Mill, tmp_path: Path) -> None:
    digests = []
    for lanes in (1, 3):
        mill.settings = {"work": {"shard_rows": 10, "batch_tokens": 32}, "store": str(tmp_path / f"{lanes}")}
        run = mill.planned(items(25))
        work(run.home, run.plan.run, WorkerOptions("w", lanes=lanes))
        content, records = run.index(), commits(run).values()
        assert {record.lanes for record in records} <= set(range(1, lanes + 1))
        assert content.seconds == pytest.approx(sum(record.lanes * record.seconds for record in records))
        digests.append(content.content_digest)
    assert digests[0] == digests[1]


def test_every_shard_gets_one_commit_record_that_says_all(mill: Mill) -> None:
    run = planned(mill, 25, shard_rows=10)
    done = work(run.home, run.plan.run, WorkerOptions("w"))
    records = commits(run)
    assert (done.shards, done.vectors, done.rejected) == (len(run.plan.shards), 25, 0)
    assert set(records) == {shard.name for shard in run.plan.shards}
    for shard in run.plan.shards:
        record = records[shard.name]
        assert (record.run, record.worker, record.rows) == (run.plan.run, "w", shard.rows)
        assert record.vectors is not None
        part = VectorPart.open(run.home.verified(run.home.key(record.vectors.path), record.vectors))
        assert len(part.fingerprints) == record.vectors.rows == shard.rows
        assert digest_list(part.fingerprints) == sorted(digest_list(part.fingerprints))
        assert (record.profile.runtime, record.profile.device, record.profile.threads) == (
            "onnxruntime",
            "cpu",
            1,
        )
        assert (record.profile.precision, record.profile.batch_tokens) == ("float32", 512)


def test_a_loop_that_comes_late_finds_nothing_to_do(mill: Mill) -> None:
    run = planned(mill, 10, shard_rows=5)
    work(run.home, run.plan.run, WorkerOptions("early"))
    before = commits(run)
    assert work(run.home, run.plan.run, WorkerOptions("late")).shards == 0
    assert commits(run) == before


def test_a_run_without_work_is_done_at_once_and_an_unknown_one_is_an_error(mill: Mill) -> None:
    mill.run(items(3))
    run = mill.planned()
    assert work(run.home, run.plan.run, WorkerOptions("w")).shards == 0
    with pytest.raises((RunMissing, StoreError), match="no-such-run"):
        work(run.home, "no-such-run", WorkerOptions("w"))


def test_loops_beside_each_other_share_the_shards(mill: Mill) -> None:
    run = planned(mill, 60, shard_rows=2)
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda name: work(run.home, run.plan.run, WorkerOptions(name)), ["a", "b", "c"]))
    assert sum(one.shards for one in done) == len(run.plan.shards) == 30
    assert sum(one.vectors for one in done) == 60
    assert len(vector_files(run)) == 30


class WithoutLeases(LocalStore):
    """A store that gives a lease to everyone who asks."""

    def put_if_absent(self, key: str, body: Body) -> str:
        return self.put(key, body) if "/leases/" in key else super().put_if_absent(key, body)


def test_without_any_leases_work_is_wasted_and_nothing_else(mill: Mill) -> None:
    """Correctness rests on the commit record alone; losers take their files away."""
    run = planned(mill, 60, shard_rows=3)
    home = Home(WithoutLeases(run.home.store.url), run.home.pipeline)
    gate = threading.Barrier(3)

    def together(name: str) -> int:
        gate.wait()
        return work(home, run.plan.run, WorkerOptions(name)).shards

    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(together, ["a", "b", "c"]))
    assert sum(done) == len(run.plan.shards) == 20
    named = {run.home.key(record.vectors.path) for record in commits(run).values() if record.vectors}
    assert vector_files(run) == named
    assert run.run().embedded == 60


class Still(World):
    """A world in which no lease expires, since no time goes by."""

    def monotonic(self) -> float:
        return 0.0


def test_a_shard_that_a_living_process_holds_is_left_to_it_until_it_ends(mill: Mill) -> None:
    run = planned(mill, 10, shard_rows=2)
    home = Home(run.home.store, run.home.pipeline, world=Still())
    sleeper = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    held = Leases(run.home, run.plan.run, "sleeper").claim(run.plan.shards[0].name)
    assert held is not None
    lease = held.lease.model_copy(
        update={"pid": sleeper.pid, "process_started": process_start(sleeper.pid), "host": held.lease.host}
    )
    run.home.store.put(held.key, lease.to_bytes())
    try:
        with ThreadPoolExecutor(1) as pool:
            going = pool.submit(work, home, run.plan.run, WorkerOptions("w"))
            until(lambda: len(commits(run)) == len(run.plan.shards) - 1)
            time.sleep(0.3)
            assert not going.done()
            sleeper.kill()
            sleeper.wait()
            assert going.result(timeout=PATIENCE_S).shards == len(run.plan.shards)
    finally:
        sleeper.kill()
        sleeper.communicate()


def test_rows_that_cannot_be_embedded_are_rejected_with_their_reason(mill: Mill, tmp_path: Path) -> None:
    mill.model = poisonable_package(tmp_path / "own")
    run = mill.planned([*items(9), {"sku": "bad", "title": POISON}])
    done = work(run.home, run.plan.run, WorkerOptions("w"))
    assert (done.vectors, done.rejected) == (9, 1)
    (record,) = commits(run).values()
    assert record.rejected is not None
    (row,) = pq.read_table(file_of(run, run.home.key(record.rejected.path))).to_pylist()
    assert (row["reason"], row["detail"]) == ("not-finite", "NaN or infinity in 16 of 16 values")
    assert record.vectors is not None
    part = VectorPart.open(file_of(run, run.home.key(record.vectors.path)))
    assert row["fingerprint"] not in digest_list(part.fingerprints)
    assert np.isfinite(part.vectors_ND).all()


def test_a_shard_of_which_no_row_can_be_embedded_has_no_vector_file(mill: Mill, tmp_path: Path) -> None:
    mill.model = poisonable_package(tmp_path / "own")
    run = mill.planned([{"sku": f"bad{n}", "title": f"{POISON}{n}"} for n in range(3)])
    work(run.home, run.plan.run, WorkerOptions("w"))
    (record,) = commits(run).values()
    assert record.vectors is None
    assert vector_files(run) == set()


@pytest.mark.parametrize("damaged", ["frozen", "model"])
def test_a_loop_does_not_work_with_damaged_files(mill: Mill, damaged: str) -> None:
    run = planned(mill, 3, shard_rows=5)
    keys = {
        "frozen": run.home.key(run.plan.shards[0].file.path),
        "model": run.home.release_key(run.plan.run, "model", "model.onnx"),
    }
    file = file_of(run, keys[damaged])
    file.chmod(0o644)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises((ReleaseCorrupt, RunClosed), match=file.name):
        work(run.home, run.plan.run, WorkerOptions("w"))
    assert commits(run) == {}
    assert (terminal_of(run.home, run.plan.run) is not None) == (damaged == "frozen")


def test_a_loop_stops_where_the_run_was_closed(mill: Mill) -> None:
    run = planned(mill, 3, shard_rows=5)
    mill.open().cancel()
    with pytest.raises(RunClosed, match="it was cancelled"):
        work(run.home, run.plan.run, WorkerOptions("w"))
    assert commits(run) == {}


def stopped_by_sigterm(mill: Mill) -> PlannedRun:
    """A run whose only loop was asked to stop after its first commit."""
    run = planned(mill, 300, shard_rows=2)

    def stop_after_the_first_commit() -> None:
        until(lambda: bool(commits(run)))
        os.kill(os.getpid(), signal.SIGTERM)

    with Stock(run.home, run.plan) as stock, ThreadPoolExecutor(1) as pool:
        stock.hand_out_all_but_one()
        pool.submit(stop_after_the_first_commit)
        with pytest.raises(Yielded, match="worker w was asked to stop"):
            work(run.home, run.plan.run, WorkerOptions("w"))
    return run


def test_sigterm_stops_between_batches_and_the_rest_is_done_later(mill: Mill) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    run = stopped_by_sigterm(mill)
    assert signal.getsignal(signal.SIGTERM) == handler
    before = commits(run)
    assert 0 < len(before) < len(run.plan.shards)
    rest = work(run.home, run.plan.run, WorkerOptions("again"))
    assert rest.shards == len(run.plan.shards) - len(before)
    assert before.items() <= commits(run).items()


def test_a_stopped_and_continued_run_has_the_content_of_an_undisturbed_one(
    mill: Mill, tmp_path: Path, tiny_model: Path
) -> None:
    stopped_by_sigterm(mill)
    mill.run()
    (tmp_path / "calm").mkdir()
    calm = Mill(tmp_path / "calm", tiny_model, settings=mill.settings)
    calm.run(items(300))
    assert mill.live().content.content_digest == calm.live().content.content_digest


def test_a_loop_ends_when_its_parent_does(mill: Mill) -> None:
    run = planned(mill, 5, shard_rows=5)
    with Heartbeat(run.home, run.plan.run, "orphan", parent=os.getppid() + 1) as heart:
        until(lambda: raises_yielded(heart.check))
    with Heartbeat(run.home, run.plan.run, "child", parent=os.getppid()) as heart:
        time.sleep(0.8)
        heart.check()


def test_a_loop_tells_how_far_it_is_and_keeps_its_lease_alive(mill: Mill) -> None:
    run = planned(mill, 5, shard_rows=5)
    lease = Leases(run.home, run.plan.run, "w").claim("00000")
    assert lease is not None
    key = run.home.run_key(run.plan.run, "events", "w.json")
    with Heartbeat(run.home, run.plan.run, "w", parent=None, beat_s=0.1) as heart:
        heart.hold(lease)
        heart.take(lease, 5)
        heart.advance(3)
        until(lambda: run.home.read(Lease, lease.key).beat > 0)
        until(lambda: run.home.exists(key) and json.loads(run.home.store.get(key))["rows_done"] > 0)
        event = json.loads(run.home.store.get(key))
    assert event["schema"] == "event/1"
    assert (event["worker"], event["shard"]) == ("w", "00000")
    assert (event["shard_done"], event["shard_rows"], event["rows_done"]) == (3, 5, 3)


def test_a_shard_whose_attempt_fails_is_free_at_once(mill: Mill) -> None:
    run = planned(mill, 5, shard_rows=5)
    lease = Leases(run.home, run.plan.run, "w").claim("00000")
    assert lease is not None
    with Heartbeat(run.home, run.plan.run, "w", parent=None) as heart:
        heart.hold(lease)
        with pytest.raises(ValueError, match="broken"), heart.giving_up():
            raise ValueError("broken")
    assert Leases(run.home, run.plan.run, "other").claim("00000") is not None


def raises_yielded(check: Callable[[], None]) -> bool:
    try:
        check()
    except Yielded:
        return True
    return False
