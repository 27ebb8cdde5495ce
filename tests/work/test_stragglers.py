"""At the end of a run idle loops do the shards of slow ones, too; and no sooner."""

from __future__ import annotations

import pytest
from tests.support.mill import Mill, items

from embedmill.release.layout import Home
from embedmill.release.runs import commit_records
from embedmill.spec.documents import Lease, Plan
from embedmill.spec.loops import BEAT_S
from embedmill.store.faulty import VirtualClock
from embedmill.work import WorkerOptions, work
from embedmill.work.leases import Leases
from embedmill.work.stragglers import WAIT_S, WAIT_SHARDS, Patience
from embedmill.world import World


class Elsewhere(World):
    """Time passes by sleeping; meanwhile a loop elsewhere keeps its leases alive, and does nothing."""

    def __init__(self, mill: Mill, *, slow: int) -> None:
        mill.settings = {"work": {"shard_rows": 2}}
        planned = mill.planned(items(10))
        self.clock, self.plan = VirtualClock(), planned.plan
        self.home = Home(planned.home.store, planned.home.pipeline, self)
        self.beaten_s = 0.0
        self.keys = []
        for shard in self.plan.shards[:slow]:
            held = Leases(planned.home, self.plan.run, "slow").claim(shard.name)
            assert held is not None
            lease = planned.home.read(Lease, held.key).model_copy(update={"host": "elsewhere"})
            planned.home.store.put(held.key, lease.to_bytes())
            self.keys.append(held.key)

    def monotonic(self) -> float:
        return self.clock.now()

    def sleep(self, seconds: float) -> None:
        self.clock.sleep(seconds)
        if self.monotonic() - self.beaten_s >= BEAT_S:
            self.beaten_s = self.monotonic()
            for key in self.keys:
                lease = self.home.read(Lease, key)
                self.home.store.put(key, lease.model_copy(update={"beat": lease.beat + 1}).to_bytes())


def by_shard(home: Home, plan: Plan) -> dict[str, str]:
    return {record.shard: record.worker for record in commit_records(home, plan)}


def test_shards_of_a_loop_that_beats_and_does_nothing_are_done_by_an_idle_one(mill: Mill) -> None:
    world = Elsewhere(mill, slow=2)
    done = work(world.home, world.plan.run, WorkerOptions("idle", heartbeat_thread=False))
    assert done.shards == len(world.plan.shards)
    assert set(by_shard(world.home, world.plan).values()) == {"idle"}
    waits = 2  # one for each shard: who has just worked is not idle
    assert waits * WAIT_S <= world.monotonic() <= waits * WAIT_S + 30


def test_a_second_attempt_is_made_by_one_at_a_time(mill: Mill) -> None:
    home, plan = (world := Elsewhere(mill, slow=1)).home, world.plan
    shard = plan.shards[0].name
    first = Leases(home, plan.run, "first").claim(shard, again=True)
    assert first is not None
    assert Leases(home, plan.run, "second").claim(shard, again=True) is None
    assert Leases(home, plan.run, "second").claim(shard) is None, "the straggler has its own, and beats"
    first.release()
    assert Leases(home, plan.run, "second").claim(shard, again=True) is not None


def test_a_straggler_that_is_late_finds_its_shard_done_and_changes_nothing(mill: Mill) -> None:
    world = Elsewhere(mill, slow=1)
    work(world.home, world.plan.run, WorkerOptions("idle", heartbeat_thread=False))
    before = by_shard(world.home, world.plan)
    done = work(world.home, world.plan.run, WorkerOptions("slow", heartbeat_thread=False))
    assert (done.shards, by_shard(world.home, world.plan)) == (0, before)


@pytest.mark.parametrize(("shard_s", "wait_s"), [(1.0, WAIT_S), (100.0, WAIT_SHARDS * 100.0)])
def test_patience_is_a_minute_and_three_shards_of_ones_own(shard_s: float, wait_s: float) -> None:
    class Clock(World):
        now_s = 0.0

        def monotonic(self) -> float:
            return self.now_s

    clock = Clock()
    patience = Patience(clock)
    for _ in range(3):
        with patience.working():
            clock.now_s += shard_s
    assert not patience.is_over()
    clock.now_s += wait_s - 0.1
    assert not patience.is_over()
    clock.now_s += 0.1
    assert patience.is_over()
    with patience.working():
        clock.now_s += shard_s
    assert not patience.is_over(), "whoever worked begins to be idle anew"
