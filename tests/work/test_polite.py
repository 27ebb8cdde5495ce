"""Who waits on a remote store asks little of it, and on a local one loses no time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.support.mill import Mill, items

from embedmill.driving import drive
from embedmill.release.layout import Home
from embedmill.release.runs import Rejections, Watch
from embedmill.spec.documents import Lease, Plan
from embedmill.store.faulty import FaultyStore, VirtualClock
from embedmill.store.memory import MemoryStore
from embedmill.store.pace import LOOK_S, POLITE_LOOK_S, Pace
from embedmill.types import Placement, WorkerState
from embedmill.work import WorkerOptions, work
from embedmill.work.leases import EXPIRY_S, Leases
from embedmill.world import World


class Counted(World):
    """A pipeline's home with a clock that passes by sleeping, whose calls are counted."""

    def __init__(self, mill: Mill, *, remote: bool) -> None:
        self.clock = VirtualClock()
        planned = mill.planned(items(10))
        self.plan: Plan = planned.plan
        self.spec = planned.pipeline.spec.work
        self.store = FaultyStore(planned.home.store)
        self.store.remote = remote
        self.home = Home(self.store, planned.home.pipeline, self)
        self.home.check_fit()
        self.store.trace.clear()

    def monotonic(self) -> float:
        return self.clock.now()

    def sleep(self, seconds: float) -> None:
        self.clock.sleep(seconds)

    @property
    def calls(self) -> Counter[str]:
        """By verb, of those whose number depends on how long one waits."""
        folders = ("/commits", "/events", "/rejected", "/leases", "terminal.json")
        return Counter(call.verb for call, _ in self.store.trace if any(part in call.key for part in folders))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDMILL_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("remote", [True, False])
def test_a_worker_that_waits_for_another_asks_a_remote_store_ever_less(mill: Mill, remote: bool) -> None:
    counted = Counted(mill, remote=remote)
    held = Leases(counted.home, counted.plan.run, "silent").claim("00000")
    assert held is not None
    lease = counted.home.read(Lease, held.key).model_copy(update={"host": "elsewhere"})
    counted.home.store.put(held.key, lease.to_bytes())
    work(counted.home, counted.plan.run, WorkerOptions("w", heartbeat_thread=False))
    longest_s = POLITE_LOOK_S if remote else LOOK_S
    assert EXPIRY_S <= counted.clock.now() <= EXPIRY_S + 2 * longest_s
    looks = EXPIRY_S / longest_s
    assert (
        3 * looks <= counted.calls.total() <= 3 * looks + 40
    )  # the first ones of a remote store come faster


class EndsAfter:
    """One loop that does all the work at a certain moment, and ends."""

    def __init__(self, counted: Counted, moment_s: float) -> None:
        self.counted, self.moment_s = counted, moment_s
        self.exit_code: int | None = None

    def start(self, run_url: str, placements: Sequence[Placement]) -> None:
        return

    def states(self) -> list[WorkerState]:
        if self.exit_code is None and self.counted.monotonic() >= self.moment_s:
            work(self.counted.home, self.counted.plan.run, WorkerOptions("w", heartbeat_thread=False))
            self.exit_code = 0
        return [WorkerState("w", self.exit_code)]

    def stop(self) -> None:
        return


@pytest.mark.parametrize("remote", [True, False])
def test_a_driver_looks_at_a_remote_store_every_two_seconds_and_when_a_loop_ends(
    mill: Mill, remote: bool
) -> None:
    counted = Counted(mill, remote=remote)
    engine = EndsAfter(counted, 60.0)
    drive(counted.home, counted.plan, counted.spec, engine, "url", lambda _: None)
    assert 60 <= counted.clock.now() <= 60 + 2 * LOOK_S  # nothing was waited for that had ended
    looks = 60 / (POLITE_LOOK_S if remote else LOOK_S)
    assert 1.8 * looks <= counted.calls["list"] <= 2 * looks + 12


def test_a_watcher_reads_no_event_twice_and_no_rejections_without_a_new_commit(mill: Mill) -> None:
    counted = Counted(mill, remote=False)
    key = counted.home.run_key(counted.plan.run, "events", "w.json")
    watch, rejections = Watch(counted.home, counted.plan), Rejections(counted.home, counted.plan)
    for done in (3, 3, 5):
        counted.home.store.put(key, b'{"shard": "00000", "shard_done": %d}' % done)
        for _ in range(4):
            state = watch.look()
            assert (state.rows_done, rejections.count(state.committed)) == (done, 0)
    assert counted.calls["get"] <= 3
    assert counted.calls["list"] == 2 * 12


def test_a_watcher_says_which_stage_most_loops_wait_for(mill: Mill) -> None:
    counted = Counted(mill, remote=False)
    watch = Watch(counted.home, counted.plan)
    assert watch.look().busiest == ""
    event = '{"shard": null, "shard_done": 0, "bottleneck": "%s"}'
    for worker, stage in {"a": "fetch", "b": "runtime", "c": "fetch", "d": ""}.items():
        counted.home.store.put(
            counted.home.run_key(counted.plan.run, "events", f"{worker}.json"), (event % stage).encode()
        )
    assert watch.look().busiest == "fetch"


def test_waits_grow_from_a_fifth_of_a_second_to_two_and_begin_anew() -> None:
    remote = FaultyStore(MemoryStore())
    remote.remote = True
    pace = Pace(remote)
    waits = [pace.wait_s() for _ in range(9)]
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (LOOK_S, POLITE_LOOK_S)
    pace.restart()
    assert pace.wait_s() == LOOK_S
    local = Pace(MemoryStore())
    assert {local.wait_s() for _ in range(9)} == {LOOK_S}
