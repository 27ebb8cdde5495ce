"""What is raised in a lane ends the attempt at a shard, as it does in the main thread."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy.typing as npt
import pytest
from tests.support.mill import Mill, items

from embedmill.errors import EmbedmillError, OutOfMemory, Yielded
from embedmill.model import Encoder, ModelPackage
from embedmill.model.lanes import Sessions
from embedmill.planned import PlannedRun
from embedmill.runtimes import Runtime
from embedmill.spec.documents import CommitRecord
from embedmill.types import Opening, Vectors
from embedmill.work import Opened, WorkerOptions, work

LANES = WorkerOptions("w", lanes=4)


class Failing:
    """Sessions that compute as `runtime` does; the first batches of all have `errors`, in whichever lane."""

    def __init__(self, runtime: Runtime, errors: Sequence[EmbedmillError]) -> None:
        self._runtime, self._lock, self._errors = runtime, threading.Lock(), list(errors)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runtime, name)

    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> Vectors:
        with self._lock:
            error = self._errors.pop() if self._errors else None
        if error is not None:
            raise error
        return self._runtime.run(feeds)


def planned(mill: Mill) -> PlannedRun:
    mill.settings = {"work": {"batch_tokens": 8, "shard_rows": 20}}
    return mill.planned(items(40))


def opened(mill: Mill, *errors: EmbedmillError) -> Opened:
    """A model with four sessions, all open; the first batches have these errors."""
    package = ModelPackage.open(mill.model)
    encoder = Encoder.load(package)
    failing = cast("Runtime", Failing(encoder.runtime, errors))
    sessions = Sessions(4, lambda: failing)
    sessions.open_all()
    encoder = replace(encoder, runtime=failing, sessions=sessions)
    return Opened(Opening(str(mill.model), 512, 16), package, encoder, package.stamps())


def record(run: PlannedRun, shard: str) -> CommitRecord:
    return run.home.read(CommitRecord, run.home.run_key(run.plan.run, "commits", f"{shard}.json"))


def test_a_loop_whose_lane_lacks_memory_goes_on_with_fewer(mill: Mill) -> None:
    run = planned(mill)
    done = work(run.home, run.plan.run, LANES, opened(mill, OutOfMemory("no memory in a lane")))
    assert (done.shards, done.vectors) == (2, 40)
    assert {record(run, shard.name).lanes for shard in run.plan.shards} == {2}
    assert {record(run, shard.name).profile.batch_tokens for shard in run.plan.shards} == {8}


def test_a_loop_that_is_stopped_in_a_lane_leaves_its_shard_to_others(mill: Mill) -> None:
    run = planned(mill)
    with pytest.raises(Yielded, match="asked to stop"):
        work(run.home, run.plan.run, LANES, opened(mill, Yielded("asked to stop")))
    assert work(run.home, run.plan.run, WorkerOptions("other", lanes=4)).vectors == 40


def test_a_kernels_kill_means_fewer_lanes_and_then_smaller_batches(mill: Mill) -> None:
    run = planned(mill)
    work(run.home, run.plan.run, replace(LANES, halvings=2), opened(mill))
    assert {record(run, shard.name).lanes for shard in run.plan.shards} == {1}
    assert {record(run, shard.name).profile.batch_tokens for shard in run.plan.shards} == {8}
