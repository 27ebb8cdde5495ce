"""When loops start before there is a plan, how many, and that none is left whatever becomes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any

import pytest
from tests.models import tiny_text_package
from tests.support.calibrations import planned as planned_after_measuring
from tests.support.calibrations import remember
from tests.support.killing import records, workers_on
from tests.support.mill import Mill, items

from embedmill.cores import EVERY, cores
from embedmill.engines import LocalEngine
from embedmill.errors import CatalogError, EmbedmillError
from embedmill.model.lanes import MOST_LANES
from embedmill.seats import SeatFolder
from embedmill.types import Opening, Placement, Progress


class Noted(LocalEngine):
    """A local engine that also notes what stands by on it, and who works once all loops are started."""

    def __init__(self, spec: Path) -> None:
        super().__init__()
        self.asked: list[tuple[int, Opening]] = []
        self.placed: list[Placement] = []
        self.at_work: set[int] = set()
        self._spec = spec

    def stand_by(self, runs_url: str, placements: Sequence[Placement], opening: Opening) -> None:
        self.asked.append((len(placements), opening))
        self.placed += placements
        super().stand_by(runs_url, placements, opening)

    def start(self, run_url: str, placements: Sequence[Placement]) -> None:
        super().start(run_url, placements)
        self.at_work |= {loop.process.pid for loop in self._loops.values()}  # some have ended by now


@pytest.fixture
def spec(mill: Mill) -> Path:
    return mill.root / "pipeline.yaml"


def pids(spec: Path) -> set[int]:
    """Of all loops that there are."""
    return {process.pid for process in workers_on(spec)}


def asked(mill: Mill) -> list[tuple[int, Opening]]:
    """What stands by while a plan is made."""
    engine = Noted(mill.root / "pipeline.yaml")
    try:
        mill.open().plan(engine=engine)
        return engine.asked
    finally:
        engine.stop()


def test_loops_of_a_first_run_stand_by_with_the_model_and_do_its_work(mill: Mill, spec: Path) -> None:
    mill.settings = {"work": {"workers": 2, "shard_rows": 6, "batch_tokens": 99}}
    mill.write(items(12))
    engine = Noted(spec)
    planned = mill.open().plan(engine=engine)
    assert engine.asked == [(2, Opening(str(mill.model), 99, 16, all_lanes=True))]
    waiting = pids(spec)
    report = planned.run()
    assert report.computed == 12
    assert len(waiting) == 2
    assert engine.at_work == waiting
    assert workers_on(spec) == []


def test_a_catalog_that_has_one_shard_at_most_has_one_loop_stand_by(mill: Mill) -> None:
    mill.settings = {"work": {"workers": 4}}
    mill.write(items(12))
    assert [count for count, _ in asked(mill)] == [1]


def test_one_stands_by_for_a_refresh_once_it_is_known_to_compute_something(mill: Mill, spec: Path) -> None:
    """How many loops it is worth is not known before its plan."""
    mill.settings = {"work": {"workers": 2, "shard_rows": 6}}
    mill.run(items(12))
    mill.write(items(24))
    engine, seen = Noted(spec), list[int]()
    planned = mill.open().plan(lambda _: seen.append(len(engine.asked)), engine=engine)
    assert [(count, opening.all_lanes) for count, opening in engine.asked] == [(1, False)]
    assert seen[0] == 0
    (waiting,) = workers_on(spec)
    assert planned.run().computed == 12
    assert waiting.pid in engine.at_work
    assert not waiting.is_running()


@pytest.mark.parametrize("base", [0, 12], ids=["a first run", "a refresh"])
def test_loops_stand_by_with_the_threads_that_the_machine_remembers(
    mill: Mill, spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: int
) -> None:
    monkeypatch.setenv("EMBEDMILL_CACHE", str(tmp_path / "cache"))
    mill.settings = {"work": {"shard_rows": 6, "batch_tokens": 99}}  # little is measured
    mill.write(items(30))
    planned_after_measuring(mill.open())
    remember(tmp_path / "cache" / "calibrations", sessions=1, threads=cores(EVERY))
    if base:
        mill.run(items(base))
    mill.write(items(24))
    engine = Noted(spec)
    planned = mill.open().plan(engine=engine)
    waiting = pids(spec)
    assert planned.plan.threads == cores(EVERY)
    assert engine.placed == [Placement("local-0", threads=cores(EVERY))]
    assert planned.run().computed == 24 - base
    assert len(waiting) == 1
    assert engine.at_work == waiting


def test_none_stands_by_where_every_vector_is_there(mill: Mill) -> None:
    mill.run(items(12))
    mill.write([*items(11), items(1)[0] | {"sku": "again"}])
    assert asked(mill) == []


def test_loops_stand_by_where_the_model_is_not_that_of_the_live_release(mill: Mill, tmp_path: Path) -> None:
    mill.run(items(12))
    mill.model = tiny_text_package(tmp_path / "other", seed=1)
    assert [opening.model for _, opening in asked(mill)] == [str(mill.model)]


def test_none_stands_by_where_a_plan_is_all_that_is_wanted(mill: Mill, spec: Path) -> None:
    mill.planned(items(12))
    assert workers_on(spec) == []


@pytest.mark.parametrize("work", [{"workers": 2, "shard_rows": 6}, {}])
def test_no_loop_is_left_of_a_run(mill: Mill, spec: Path, work: dict[str, Any]) -> None:
    mill.settings = {"work": work}
    mill.write(items(12))
    assert mill.open().run().computed == 12
    assert workers_on(spec) == []


def test_no_loop_is_left_where_nothing_had_to_be_computed(mill: Mill, spec: Path) -> None:
    """All of the first run's shards are committed, and it was not published."""
    mill.worked(items(12))
    assert mill.open().run().computed == 12
    assert workers_on(spec) == []


def test_no_loop_is_left_of_a_plan_that_fails(mill: Mill, spec: Path) -> None:
    mill.write([])
    with pytest.raises(CatalogError, match="no rows"):
        mill.open().run()
    assert workers_on(spec) == []


class Upsetting(Noted):
    """Once a loop stands by, items of the live release are gone, which the plan reads next."""

    def stand_by(self, runs_url: str, placements: Sequence[Placement], opening: Opening) -> None:
        super().stand_by(runs_url, placements, opening)
        assert len(workers_on(self._spec)) == 1
        for file in Path(self._spec.parent, "mill").rglob("items/*.parquet"):
            file.unlink()


def test_a_refresh_that_fails_while_one_stands_by_has_ended_it(mill: Mill, spec: Path) -> None:
    mill.run(items(12))
    mill.write(items(24))
    engine = Upsetting(spec)
    with pytest.raises((EmbedmillError, OSError)):
        mill.open().plan(engine=engine)
    assert [count for count, _ in engine.asked] == [1]
    assert workers_on(spec) == []


def test_a_first_plan_that_fails_or_is_interrupted_has_ended_those_that_stand_by(
    mill: Mill, spec: Path
) -> None:
    mill.write([])
    with pytest.raises(CatalogError, match="no rows"):
        mill.open().plan(engine=mill.open().standby())
    assert workers_on(spec) == []
    mill.write(items(12))

    def interrupt(_: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mill.open().plan(interrupt, engine=mill.open().standby())
    assert workers_on(spec) == []


def test_no_loop_is_left_where_a_plan_is_interrupted(mill: Mill, spec: Path) -> None:
    mill.write(items(12))

    def interrupt(progress: Progress) -> None:
        assert progress.stage == "plan"
        assert len(workers_on(spec)) == 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mill.open().run(on_progress=interrupt)
    assert workers_on(spec) == []


def test_none_stands_by_where_devices_are_shared_or_lent(mill: Mill, tmp_path: Path) -> None:
    assert mill.open().standby() is not None
    pipeline = mill.open()
    assert type(pipeline)(pipeline.spec, pipeline.root, seats=SeatFolder(tmp_path)).standby() is None
    ray = pipeline.spec.model_copy(update={"engine": "ray"})
    assert type(pipeline)(ray, pipeline.root).standby() is None
    mixed = pipeline.spec.model_copy(update={"engine": ("local", "ray")})
    assert type(pipeline)(mixed, pipeline.root).standby() is None


def test_texts_share_a_process_unless_cores_are_given_one_by_one(mill: Mill, tmp_path: Path) -> None:
    plan = mill.planned(items(12)).plan
    alone = mill.open()
    together = replace(alone, seats=SeatFolder(tmp_path))
    shared, apart = (pipeline.places(plan).look(99, ()).free for pipeline in (alone, together))
    assert len(shared) == ceil(cores(EVERY) / MOST_LANES)
    assert sum(place.lanes for place in shared) == cores(EVERY)
    assert [place.lanes for place in apart] == [1] * cores(EVERY)


def test_all_lanes_of_a_process_work_on_one_shard(mill: Mill, spec: Path) -> None:
    mill.settings = {"work": {"batch_tokens": 1}}
    mill.write(items(12))
    pipeline = mill.open()
    planned = pipeline.plan(engine=pipeline.standby())
    (place,) = pipeline.places(planned.plan).look(len(planned.plan.shards), ()).free
    planned.work()
    (record,) = records(spec)
    assert record.worker == place.worker
    assert record.lanes == min(place.lanes, 12), "each text is a batch, and all lanes were open"
