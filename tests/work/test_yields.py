"""Loops that give their devices back: others take what is left, and nobody counts it as a loss."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import pytest
from tests.support.mill import Mill, items

from embedmill.driving import drive
from embedmill.errors import Yielded
from embedmill.planned import PlannedRun
from embedmill.release.draining import drain, is_drained, undrain
from embedmill.spec import WorkSpec
from embedmill.types import Placement, WorkerState
from embedmill.work import WorkerOptions, work

YIELDED = 75


class Loops:
    """Loops in this process: each name has what its starts end with, one after the other."""

    def __init__(self, run: PlannedRun, **endings: Sequence[Callable[[], int]]) -> None:
        self._run = run
        self._endings = {name.replace("_", "-"): list(each) for name, each in endings.items()}
        self._codes: dict[str, int | None] = {}
        self.starts: list[str] = []

    def start(self, run_url: str, placements: Sequence[Placement]) -> None:
        for place in placements:
            self.starts.append(place.worker)
            self._codes[place.worker] = self._endings[place.worker].pop(0)()

    def states(self) -> list[WorkerState]:
        return [WorkerState(name, code, "its words") for name, code in self._codes.items()]

    def stop(self) -> None:
        return


@pytest.fixture
def run(mill: Mill) -> PlannedRun:
    mill.settings = {"work": {"shard_rows": 10, "workers": 2, "attempts": 1}}
    return mill.planned(items(40))


def yields() -> int:
    return YIELDED


def test_the_rest_of_one_that_yields_is_done_by_another(run: PlannedRun) -> None:
    def works() -> int:
        return 0 if work(run.home, run.plan.run, WorkerOptions("local-1")).shards == 4 else 1

    loops = Loops(run, local_0=[yields], local_1=[works])
    drive(run.home, run.plan, run.pipeline.spec.work, loops, run.url, lambda _: None)
    assert loops.starts == ["local-0", "local-1"]
    assert run.run().computed == 40


def test_yields_are_no_losses_and_when_all_yield_the_run_ends_with_75(run: PlannedRun) -> None:
    loops = Loops(run, local_0=[yields], local_1=[yields])
    with pytest.raises(Yielded, match=r"all workers stopped; ended with exit code 75: its words") as raised:
        drive(run.home, run.plan, WorkSpec(workers=2, attempts=1), loops, run.url, lambda _: None)
    assert raised.value.exit_code == YIELDED
    assert loops.starts == ["local-0", "local-1"], "it is not started again where somebody else is"


def test_a_drained_run_has_no_workers_until_it_is_gone_on_with(run: PlannedRun) -> None:
    drain(run.home, run.plan.run)
    with pytest.raises(Yielded, match="worker w was asked to stop: the run is drained"):
        work(run.home, run.plan.run, WorkerOptions("w"))
    assert not list(run.home.store.list(run.home.run_key(run.plan.run, "leases")))
    assert run.run().computed == 40
    assert not is_drained(run.home, run.plan.run)


def test_draining_twice_says_since_when_and_may_be_undone(run: PlannedRun) -> None:
    first = drain(run.home, run.plan.run)
    assert drain(run.home, run.plan.run) == first
    assert first.active
    assert not undrain(run.home, run.plan.run).active
    assert not undrain(run.home, run.plan.run).active
    assert work(run.home, run.plan.run, WorkerOptions("w")).shards == 4


def test_a_loop_tells_where_it_is(run: PlannedRun) -> None:
    where = {"host": "gpu-07", "gpu": "Tesla T4", "image": "registry/mill@sha256:ab"}
    work(run.home, run.plan.run, WorkerOptions("w", heartbeat_thread=False, where=where))
    event = json.loads(run.home.store.get(run.home.run_key(run.plan.run, "events", "w.json")))
    assert {name: event[name] for name in where} == where
    assert event["schema"] == "event/1"


def test_a_loop_without_gpus_to_watch_needs_no_driver(run: PlannedRun) -> None:
    assert work(run.home, run.plan.run, WorkerOptions("w", watch_gpus=())).shards == 4
