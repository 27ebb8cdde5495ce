"""A stock of shards is what others have left, and nothing is kept of one that could not be taken."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.support.mill import Mill, items
from tests.support.patience import PATIENCE_S
from tests.support.stock import Stock

from embedmill.errors import StoreError
from embedmill.planned import PlannedRun
from embedmill.release.runs import commit_records
from embedmill.spec.documents import Lease
from embedmill.work import WorkerOptions, work
from embedmill.work.leases import HeldLease, Leases


@pytest.fixture
def planned(mill: Mill) -> PlannedRun:
    mill.settings = {"work": {"shard_rows": 4}}
    return mill.planned(items(12))


def test_what_others_have_claimed_stays_theirs(planned: PlannedRun) -> None:
    first, *others = [shard.name for shard in planned.plan.shards]
    theirs = Leases(planned.home, planned.plan.run, "somebody").claim(first)
    with Stock(planned.home, planned.plan):
        leases = Leases(planned.home, planned.plan.run, "another")
        assert not any(leases.claim(shard) for shard in others)
    assert all(leases.claim(shard) for shard in others)
    assert theirs is not None
    theirs.beat()
    assert not theirs.lost


def test_what_is_kept_elsewhere_is_nobodys_however_long_it_lasts(
    planned: PlannedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.support.stock.BEAT_S", 0.05)
    shards = [shard.name for shard in planned.plan.shards]
    leases = Leases(planned.home, planned.plan.run, "another")
    with Stock(planned.home, planned.plan, elsewhere=True):
        for shard in shards:
            assert leases.claim(shard) is None
            wait_for_beats(planned, shard)
    assert all(leases.claim(shard) for shard in shards)


def test_whoever_is_waited_for_has_committed_a_part_and_some_is_left(mill: Mill) -> None:
    mill.settings["work"] = {"shard_rows": 2}
    planned = mill.planned(items(60))
    with ThreadPoolExecutor(2) as pool, Stock(planned.home, planned.plan) as stock:
        loops = [
            pool.submit(work, planned.home, planned.plan.run, WorkerOptions(name)) for name in ("one", "two")
        ]
        stock.hand_out_until_done_by("one", "two")
        assert {record.worker for record in commit_records(planned.home, planned.plan)} == {"one", "two"}
        stock.hand_out_all_but_one()
        assert not any(loop.done() for loop in loops)
    assert sum(loop.result().shards for loop in loops) == len(planned.plan.shards)


def test_where_all_is_done_there_is_no_stock_and_nothing_is_held(planned: PlannedRun) -> None:
    work(planned.home, planned.plan.run, WorkerOptions("worker"))
    for shard in planned.plan.shards:
        planned.home.store.delete(planned.home.run_key(planned.plan.run, "leases", f"{shard.name}.json"))
    with pytest.raises(AssertionError, match="others have begun"):
        Stock(planned.home, planned.plan)
    leases = Leases(planned.home, planned.plan.run, "another")
    assert all(leases.claim(shard.name) for shard in planned.plan.shards)


def test_a_shard_that_was_taken_from_the_stock_is_told_and_not_given(planned: PlannedRun) -> None:
    shard = planned.plan.shards[-1].name
    with Stock(planned.home, planned.plan) as stock:
        key = lease_key(planned, shard)
        theirs = planned.home.read(Lease, key).model_copy(update={"worker": "another"})
        planned.home.store.put(key, theirs.to_bytes())
        with pytest.raises(AssertionError, match=f"shard {shard} was taken from the stock"):
            stock.hand_out()
    assert planned.home.read(Lease, key) == theirs


def test_what_is_taken_is_kept_while_the_rest_is_taken(
    planned: PlannedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.support.stock.BEAT_S", 0.05)
    first, *_, last = [shard.name for shard in planned.plan.shards]
    claim = Leases.claim

    def late(leases: Leases, shard: str) -> HeldLease | None:
        if shard == last:
            wait_for_beats(planned, first)
        return claim(leases, shard)

    monkeypatch.setattr(Leases, "claim", late)
    with Stock(planned.home, planned.plan, elsewhere=True):
        pass


def test_a_store_that_fails_while_the_stock_is_kept_is_told_whoever_waits(
    planned: PlannedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.support.stock.BEAT_S", 0.05)

    def broken(_: HeldLease) -> None:
        raise StoreError("no space", hint="make some")

    stock = Stock(planned.home, planned.plan)
    with monkeypatch.context() as patch:
        patch.setattr(HeldLease, "beat", broken)
        with pytest.raises(AssertionError, match="could not be kept"):
            stock.wait_until(lambda: False, "never")
    with pytest.raises(AssertionError, match="could not be kept"):
        stock.__exit__()


def test_the_end_of_a_run_ends_what_waits_for_its_workers_with_its_last_words(planned: PlannedRun) -> None:
    ended = pytest.raises(AssertionError, match="one: there: never, for it has no model")
    with Stock(planned.home, planned.plan) as stock, ended:
        stock.hand_out_until_done_by("one", unless=lambda: "it has no model")


def lease_key(run: PlannedRun, shard: str) -> str:
    return run.home.run_key(run.plan.run, "leases", f"{shard}.json")


def wait_for_beats(run: PlannedRun, shard: str) -> None:
    """Its lease is of another machine, and goes on changing."""
    key = lease_key(run, shard)
    deadline_s = time.monotonic() + PATIENCE_S
    while (lease := run.home.read(Lease, key)).beat < 3:
        assert time.monotonic() < deadline_s, "nobody keeps it"
        time.sleep(0.05)
    assert lease.host == "elsewhere"
