"""What every engine does, whatever it starts loops with. Loops are real, and so is the run they work on."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from tests.support.mill import Mill, items
from tests.support.patience import PATIENCE_S
from tests.support.stock import Stock

from embedmill.engines import Engine
from embedmill.planned import PlannedRun
from embedmill.release.runs import work_state
from embedmill.types import Placement, WorkerState

MISSING = "20260101T000000000-0000"


class EngineSuite:
    """A class for an engine inherits it, and has the fixtures `engine` and `place`."""

    @pytest.fixture
    def engine(self) -> Iterator[Engine]:
        raise NotImplementedError

    @pytest.fixture
    def place(self, tmp_path: Path) -> Callable[[str], Placement]:
        raise NotImplementedError

    def test_loops_work_until_the_run_is_complete(
        self, engine: Engine, place: Callable[[str], Placement], planned: PlannedRun
    ) -> None:
        engine.start(planned.url, [place("one"), place("two")])
        ended = wait_for_the_end(engine)
        assert {state.worker: state.exit_code for state in ended} == {"one": 0, "two": 0}
        assert work_state(planned.home, planned.plan).complete

    def test_a_loop_that_runs_is_left_alone_and_one_that_ended_is_started_again(
        self, engine: Engine, place: Callable[[str], Placement], waiting: PlannedRun
    ) -> None:
        engine.start(waiting.url, [place("one")])
        (first,) = wait_for_loops(waiting, 1)
        engine.start(waiting.url, [place("one")])
        assert wait_for_loops(waiting, 1) == [first]
        first.kill()
        (state,) = wait_for_the_end(engine)
        assert state.exit_code == -signal.SIGKILL
        engine.start(waiting.url, [place("one")])
        assert [(state.worker, state.exit_code) for state in engine.states()] == [("one", None)]
        assert wait_for_loops(waiting, 1) != [first]

    def test_a_loop_that_cannot_work_says_why_with_its_exit_code(
        self, engine: Engine, place: Callable[[str], Placement], planned: PlannedRun
    ) -> None:
        engine.start(planned.url.replace(planned.plan.run, MISSING), [place("one")])
        (state,) = wait_for_the_end(engine)
        assert state.exit_code == 1
        assert "no run" in state.said

    def test_a_loop_that_is_asked_to_stop_ends_as_yielded(
        self, engine: Engine, place: Callable[[str], Placement], waiting: PlannedRun
    ) -> None:
        engine.start(waiting.url, [place("one")])
        (loop,) = wait_for_loops(waiting, 1)
        wait_until_it_works(waiting, "one")
        loop.terminate()
        (state,) = wait_for_the_end(engine)
        assert (state.exit_code, "asked to stop" in state.said) == (75, True), state

    def test_after_stop_no_loop_runs_and_none_is_known(
        self, engine: Engine, place: Callable[[str], Placement], waiting: PlannedRun
    ) -> None:
        engine.start(waiting.url, [place("one"), place("two")])
        wait_for_loops(waiting, 2)
        engine.stop()
        assert loops_on(waiting) == []
        assert engine.states() == []

    def test_an_engine_starts_again_after_a_stop(
        self, engine: Engine, place: Callable[[str], Placement], planned: PlannedRun
    ) -> None:
        engine.stop()
        engine.start(planned.url, [place("one")])
        assert [state.exit_code for state in wait_for_the_end(engine)] == [0]


@pytest.fixture
def planned(mill: Mill) -> PlannedRun:
    """A run with two shards, which nobody has worked on."""
    mill.settings["work"] = {"shard_rows": 6}
    return mill.planned(items(12))


@pytest.fixture
def waiting(planned: PlannedRun) -> Iterator[PlannedRun]:
    """A run whose shards somebody elsewhere holds until the test is over: loops on it wait."""
    with Stock(planned.home, planned.plan, elsewhere=True):
        yield planned


def wait_for_the_end(engine: Engine) -> list[WorkerState]:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        states = engine.states()
        if all(state.exit_code is not None for state in states):
            return states
        assert time.monotonic() < deadline, "a loop does not end"
        time.sleep(0.1)


def wait_for_loops(run: PlannedRun, count: int) -> list[psutil.Process]:
    deadline = time.monotonic() + PATIENCE_S
    while len(found := loops_on(run)) < count:
        assert time.monotonic() < deadline, "no loop was started"
        time.sleep(0.1)
    return found


def loops_on(run: PlannedRun) -> list[psutil.Process]:
    """Worker processes of this run, whoever started them."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        line = process.info["cmdline"] or []
        if "worker" in line and run.url in line and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def wait_until_it_works(run: PlannedRun, worker: str) -> None:
    """It has told how far it is: from now on SIGTERM asks it to stop."""
    deadline = time.monotonic() + PATIENCE_S
    while not run.home.exists(run.home.run_key(run.plan.run, "events", f"{worker}.json")):
        assert time.monotonic() < deadline, "the loop does not begin"
        time.sleep(0.05)
