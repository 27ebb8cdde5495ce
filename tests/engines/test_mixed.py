"""Several engines on one run: a part that fails is told, and does not end what others do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from embedmill.engines import MixedEngine
from embedmill.errors import EngineRefused, EngineUnavailable, SpecError
from embedmill.types import Placement, WorkerState


@dataclass
class Part:
    """An engine whose loops run until they are stopped; `failure`: what its next starts raise."""

    failure: Exception | None = None
    running: dict[str, str] = field(default_factory=dict)
    stopped: bool = False

    def start(self, run_url: str, placements: Sequence[Placement]) -> None:
        if self.failure is not None:
            raise self.failure
        self.running |= {place.worker: run_url for place in placements}

    def states(self) -> list[WorkerState]:
        return [WorkerState(worker, None) for worker in self.running]

    def stop(self) -> None:
        self.stopped = True
        self.running.clear()
        if self.failure is not None:
            raise self.failure


AWAY = EngineUnavailable("gives no answer")
PLACES = [Placement("a-0", engine="a"), Placement("b-0", engine="b"), Placement("a-1", engine="a")]


def test_each_loop_is_started_by_its_own_engine() -> None:
    a, b = Part(), Part()
    engine = MixedEngine({"a": a, "b": b})
    engine.start("run", PLACES)
    assert (a.running, b.running) == ({"a-0": "run", "a-1": "run"}, {"b-0": "run"})
    assert [state.worker for state in engine.states()] == ["a-0", "a-1", "b-0"]


def test_loops_of_an_engine_that_gives_no_answer_are_lost_while_others_work() -> None:
    a, b = Part(), Part(AWAY)
    engine = MixedEngine({"a": a, "b": b})
    engine.start("run", PLACES)
    lost = WorkerState("b-0", 255, "engine b: gives no answer")
    assert engine.states() == [WorkerState("a-0", None), WorkerState("a-1", None), lost]
    b.failure = None
    engine.start("run", PLACES[1:2])
    assert WorkerState("b-0", None) in engine.states()
    assert lost not in engine.states()


def test_an_engine_that_fails_where_no_other_works_ends_the_run() -> None:
    engine = MixedEngine({"a": Part(AWAY), "b": Part(EngineRefused("no rights"))})
    with pytest.raises((EngineUnavailable, EngineRefused)):
        engine.start("run", PLACES)
    with pytest.raises(EngineRefused, match="no rights"):
        engine.start("run", PLACES[1:2])


def test_all_parts_are_stopped_though_one_fails() -> None:
    a, b = Part(AWAY), Part()
    engine = MixedEngine({"a": a, "b": b})
    engine.start("run", PLACES[1:2])
    with pytest.raises(EngineUnavailable):
        engine.stop()
    assert (a.stopped, b.stopped) == (True, True)
    assert engine.states() == []


def test_a_place_of_no_engine_is_an_error() -> None:
    with pytest.raises(SpecError, match="no engine 'c'"):
        MixedEngine({"a": Part()}).start("run", [Placement("x", engine="c")])
