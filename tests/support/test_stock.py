"""A stock of shards is what others have left, and nothing is kept of one that could not be taken."""

from __future__ import annotations

import pytest
from tests.support.mill import Mill, items
from tests.support.stock import Stock

from embedmill.pipeline import PlannedRun
from embedmill.work import WorkerOptions, work
from embedmill.work.leases import Leases


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


def test_where_all_is_done_there_is_no_stock_and_nothing_is_held(planned: PlannedRun) -> None:
    work(planned.home, planned.plan.run, WorkerOptions("worker"))
    for shard in planned.plan.shards:
        planned.home.store.delete(planned.home.run_key(planned.plan.run, "leases", f"{shard.name}.json"))
    with pytest.raises(AssertionError, match="others have begun"):
        Stock(planned.home, planned.plan)
    leases = Leases(planned.home, planned.plan.run, "another")
    assert all(leases.claim(shard.name) for shard in planned.plan.shards)
