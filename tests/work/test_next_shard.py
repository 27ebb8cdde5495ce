"""The arrays of the next shard are begun before this one ends; whatever ends this one takes none of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from threading import Event, Lock
from typing import Any, TypeAlias, cast

import numpy.typing as npt
import pytest
from tests.support.mill import Mill, items
from tests.support.patience import until

from embedmill.errors import EmbedmillError, OutOfMemory, Yielded
from embedmill.model import Encoder, ModelPackage
from embedmill.model.feeds import Fed
from embedmill.model.lanes import Sessions
from embedmill.planned import PlannedRun
from embedmill.release.layout import Home
from embedmill.runtimes import Runtime
from embedmill.types import Opening, Vectors
from embedmill.work import Opened, WorkDone, WorkerOptions, work
from embedmill.work.feeder import Feeder, Following
from embedmill.world import World

ROWS = 20
Follows: TypeAlias = Callable[[], Following]


class Still(World):
    """A world whose clock stands still: the next shard is claimed at the first batch, however slow it is."""

    def monotonic(self) -> float:
        return 0.0


class Failing:
    """Computes as `runtime` does; the first shard's last batch waits until `begun`, and then has `error`."""

    def __init__(self, runtime: Runtime, begun: Event, error: EmbedmillError) -> None:
        self._runtime, self._begun, self._error, self._left = runtime, begun, error, ROWS

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runtime, name)

    def run_watched(
        self, feeds: Mapping[str, npt.NDArray[Any]], while_waiting: Callable[[], object]
    ) -> Vectors:
        self._left -= len(next(iter(feeds.values())))
        if self._left == 0:
            until(lambda: while_waiting() or self._begun.is_set(), "the next shard's arrays are begun")
            raise self._error
        return self._runtime.run(feeds)


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> Event:
    """Whether arrays of a next shard were begun."""
    said, follow = Event(), Feeder.follow

    def noted(following: Follows) -> Following:
        said.set()
        return following()

    monkeypatch.setattr(Feeder, "follow", lambda feeder, told: follow(feeder, partial(noted, told)))
    return said


def planned(mill: Mill) -> PlannedRun:
    mill.settings = {"work": {"batch_tokens": 8, "shard_rows": ROWS}}
    return mill.planned(items(2 * ROWS))


def worked_by(run: PlannedRun, model: Path, made: Callable[[Runtime], object]) -> WorkDone:
    """By a loop with two lanes that are open, and compute by what is made of the model's runtime."""
    package = ModelPackage.open(model)
    encoder = Encoder.load(package)
    runtime = cast("Runtime", made(encoder.runtime))
    sessions = Sessions(2, lambda: runtime)
    sessions.open_all()
    encoder = replace(encoder, runtime=runtime, sessions=sessions)
    home = Home(run.home.store, run.home.pipeline, world=Still())
    opened = Opened(Opening(str(model), 512, 16), package, encoder, package.stamps())
    return work(home, run.plan.run, WorkerOptions("w"), opened)


def worked(run: PlannedRun, model: Path, begun: Event, error: EmbedmillError) -> WorkDone:
    """By a loop whose first shard has this error once the arrays of the next one are begun."""
    return worked_by(run, model, lambda runtime: Failing(runtime, begun, error))


def alone(run: PlannedRun) -> WorkDone:
    """By another loop, which has no thread and so begins nothing early."""
    return work(run.home, run.plan.run, WorkerOptions("other", heartbeat_thread=False))


def test_a_shard_that_lacks_memory_is_tried_again_with_its_own_arrays(
    mill: Mill, tmp_path: Path, begun: Event
) -> None:
    run = planned(mill)
    assert worked(run, mill.model, begun, OutOfMemory("no memory")).vectors == 2 * ROWS
    assert begun.is_set()
    (tmp_path / "usual").mkdir()
    usual = planned(Mill(tmp_path / "usual", mill.model))
    alone(usual)
    assert run.index().content_digest == usual.index().content_digest


def test_a_loop_that_stops_leaves_shards_to_others_before_it_waits_for_arrays(
    mill: Mill, begun: Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, follow, left = planned(mill), Feeder.follow, Event()

    def slow(feeds: Iterator[Fed]) -> Iterator[Fed]:
        until(lambda: not list(run.home.store.list(run.home.run_key(run.plan.run, "leases"))), "no lease")
        left.set()
        yield from feeds

    def slowly(following: Follows) -> Following:
        return following()._replace(feeds=slow(following().feeds))

    monkeypatch.setattr(Feeder, "follow", lambda feeder, told: follow(feeder, partial(slowly, told)))
    with pytest.raises(Yielded, match="asked to stop"):
        worked(run, mill.model, begun, Yielded("asked to stop"))
    assert left.is_set()
    assert alone(run).vectors == 2 * ROWS


class Meeting:
    """Computes as `runtime` does; each batch may wait before, by its number and how many rows it has."""

    def __init__(self, runtime: Runtime, wait: Callable[[int, int], None]) -> None:
        self._runtime, self._wait, self._numbers = runtime, wait, count()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runtime, name)

    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> Vectors:
        self._wait(next(self._numbers), len(next(iter(feeds.values()))))
        return self._runtime.run(feeds)


def worked_in_lanes(run: PlannedRun, model: Path, wait: Callable[[int, int], None]) -> WorkDone:
    """By a loop with two lanes that are open, whose batches wait like this."""
    return worked_by(run, model, lambda runtime: Meeting(runtime, wait))


def test_the_next_shards_first_batch_is_computed_beside_this_ones_last(mill: Mill) -> None:
    """The batch with a shard's last rows ends once other rows are begun: only the next shard has any."""
    mill.settings = {"work": {"batch_tokens": 8, "shard_rows": ROWS}}
    run, changing, rows_begun = mill.planned(items(2 * ROWS, start=10)), Lock(), 0
    assert [shard.rows for shard in run.plan.shards] == [ROWS, ROWS]  # for all texts are as long

    def wait(_: int, rows: int) -> None:
        nonlocal rows_begun
        with changing:
            rows_begun += rows
            is_last = rows_begun == ROWS
        if is_last:
            until(lambda: rows_begun > ROWS, "the next shard's first batch begins")

    assert worked_in_lanes(run, mill.model, wait).vectors == 2 * ROWS


def test_a_shard_of_one_batch_that_was_begun_early_is_in_hand_when_the_next_one_is_claimed(
    mill: Mill, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its arrays were made before it was in hand, so that nothing else says that the next one is wanted."""
    mill.settings = {"work": {"batch_tokens": 512, "shard_rows": ROWS}}
    run, followed, follow, begun = mill.planned(items(3 * ROWS)), list[Follows](), Feeder.follow, list[int]()

    def noted(feeder: Feeder, told: Follows) -> None:
        followed.append(told)
        follow(feeder, told)

    def wait(number: int, _: int) -> None:
        begun.append(number)
        if number < 2:
            until(lambda: len(begun) > 1 and len(followed) > 1 + number)

    monkeypatch.setattr(Feeder, "follow", noted)
    assert worked_in_lanes(run, mill.model, wait).shards == 3
    assert begun == [0, 1, 2]
