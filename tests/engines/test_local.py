"""Loops of this machine that start before their run is planned, and wait for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from tests.contracts.engine_suite import planned, wait_for_the_end, waiting
from tests.support.mill import Mill
from tests.support.patience import PATIENCE_S, until
from tests.support.stock import Stock

from embedmill.driving import stopped
from embedmill.engines import LocalEngine
from embedmill.engines.local import KEPT
from embedmill.planned import PlannedRun
from embedmill.release.runs import work_state
from embedmill.types import Opening, Placement

__all__ = ["planned", "waiting"]
ONE, TWO = Placement("one"), Placement("two")
PARENT = """
import json, os, sys, time
from embedmill.engines import LocalEngine
from embedmill.types import Opening, Placement
engine = LocalEngine()
engine.stand_by(sys.argv[1], [Placement("one"), Placement("two")], Opening(sys.argv[2], 512, 16))
print("started", flush=True)
time.sleep(60)
"""


@pytest.fixture
def engine() -> Iterator[LocalEngine]:
    engine = LocalEngine()
    yield engine
    engine.stop()


@pytest.fixture
def runs_url(mill: Mill) -> str:
    return f"{mill.home.url}/runs"


def opening(mill: Mill) -> Opening:
    return Opening(str(mill.model), 512, 16)


def standing_by(runs_url: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        line = process.info["cmdline"] or []
        if "--ahead" in line and f"{runs_url}/*" in line and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def environment_of_the_loop(runs_url: str) -> dict[str, str]:
    """The kernel tells it a moment after the process has started."""
    until(lambda: any(loop.environ() for loop in standing_by(runs_url)), "a loop with its environment")
    (loop,) = standing_by(runs_url)
    found: dict[str, str] = loop.environ()
    return found


@pytest.mark.parametrize(
    ("lanes", "told"),
    [
        (1, {"TOKENIZERS_PARALLELISM": "false"}),
        (3, {"TOKENIZERS_PARALLELISM": "true", "RAYON_NUM_THREADS": "6"}),
    ],
)
def test_a_loop_of_several_lanes_tokenizes_on_all_their_cores(
    engine: LocalEngine, mill: Mill, runs_url: str, lanes: int, told: dict[str, str]
) -> None:
    engine.stand_by(runs_url, [Placement("w", threads=2, lanes=lanes)], opening(mill))
    assert (told | {"OMP_NUM_THREADS": "2"}).items() <= environment_of_the_loop(runs_url).items()


@pytest.mark.parametrize("asked", [None, "4096"])
def test_a_loop_keeps_memory_that_a_model_took_to_open_unless_its_environment_says_otherwise(
    engine: LocalEngine, mill: Mill, runs_url: str, monkeypatch: pytest.MonkeyPatch, asked: str | None
) -> None:
    for name in KEPT:
        monkeypatch.delenv(name, raising=False)
        if asked is not None:
            monkeypatch.setenv(name, asked)
    engine.stand_by(runs_url, [ONE], opening(mill))
    found = environment_of_the_loop(runs_url)
    assert {name: found[name] for name in KEPT} == {name: asked or default for name, default in KEPT.items()}


def test_loops_that_stand_by_work_on_the_run_that_they_are_told_of(
    engine: LocalEngine, mill: Mill, planned: PlannedRun, runs_url: str
) -> None:
    engine.stand_by(runs_url, [ONE, TWO], opening(mill))
    assert engine.states() == []
    before = {process.pid for process in standing_by(runs_url)}
    with Stock(planned.home, planned.plan):
        engine.start(planned.url, [ONE, TWO])
        assert {process.pid for process in standing_by(runs_url)} == before
    ended = wait_for_the_end(engine)
    assert {state.worker: state.exit_code for state in ended} == {"one": 0, "two": 0}
    assert work_state(planned.home, planned.plan).complete


def test_loops_that_no_place_was_found_for_end_with_the_start_of_others(
    engine: LocalEngine, mill: Mill, planned: PlannedRun, runs_url: str
) -> None:
    engine.stand_by(runs_url, [ONE, TWO], opening(mill))
    engine.start(planned.url, [ONE])
    assert not any("two" in process.info["cmdline"] for process in standing_by(runs_url))
    assert [state.exit_code for state in wait_for_the_end(engine)] == [0]


def test_a_loop_that_fails_says_why_and_not_that_it_is_an_error(engine: LocalEngine, mill: Mill) -> None:
    engine.start(f"{mill.home.url}/runs/nope", [ONE])
    (state,) = wait_for_the_end(engine)
    assert "no run 'nope'" in state.said
    assert "error:" not in state.said


def test_a_loop_that_stands_by_elsewhere_is_not_taken_for_another_device(
    engine: LocalEngine, mill: Mill, planned: PlannedRun, runs_url: str
) -> None:
    engine.stand_by(runs_url, [ONE], opening(mill))
    engine.start(planned.url, [Placement("one", threads=2)])
    assert standing_by(runs_url) == []
    assert [state.exit_code for state in wait_for_the_end(engine)] == [0]


def test_a_loop_that_was_lost_while_it_stood_by_is_started_anew(
    engine: LocalEngine, mill: Mill, planned: PlannedRun, runs_url: str
) -> None:
    engine.stand_by(runs_url, [ONE], opening(mill))
    (process,) = standing_by(runs_url)
    process.kill()
    until(lambda: standing_by(runs_url) == [], "a killed loop is there")
    engine.start(planned.url, [ONE])
    assert [(state.worker, state.exit_code) for state in wait_for_the_end(engine)] == [("one", 0)]
    assert work_state(planned.home, planned.plan).complete


def test_stop_ends_loops_that_stand_by(engine: LocalEngine, mill: Mill, runs_url: str) -> None:
    engine.stand_by(runs_url, [ONE, TWO], opening(mill))
    assert len(standing_by(runs_url)) == 2
    engine.stop()
    assert standing_by(runs_url) == []
    assert engine.states() == []


def test_loops_that_stand_by_end_with_their_parent(mill: Mill, runs_url: str) -> None:
    command = [sys.executable, "-c", PARENT, runs_url, str(mill.model)]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert parent.stdout.readline() == "started\n"
    loops = standing_by(runs_url)
    assert len(loops) == 2
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until(lambda: not any(loop.is_running() for loop in loops), "a loop outlived its parent")


def test_what_the_kernel_ended_of_others_makes_no_batches_smaller(
    waiting: PlannedRun, tmp_path: Path
) -> None:
    """It is told apart as soon as the loops were seen to live on."""
    kills = tmp_path / "vmstat"
    kills.write_text("oom_kill 3\n")
    engine = LocalEngine([kills], settled_s=0)
    with stopped(engine):
        engine.start(waiting.url, [ONE])
        kills.write_text("oom_kill 4\n")
        assert [engine.states()[0].exit_code for _ in range(2)] == [None, None]
        (process,) = loops_of(waiting)
        process.kill()
        until(lambda: engine.states()[0].exit_code is not None, "a killed loop lives")
        assert engine.states()[0].halvings == 0
        engine.start(waiting.url, [ONE])
        (process,) = loops_of(waiting)
        assert "--halvings" not in process.cmdline()


def loops_of(planned: PlannedRun) -> list[psutil.Process]:
    children = psutil.Process().children()
    return [
        each for each in children if each.status() != psutil.STATUS_ZOMBIE and planned.url in each.cmdline()
    ]


@pytest.fixture
def alone(mill: Mill, runs_url: str) -> Callable[[int | None], subprocess.Popen[str]]:
    """A loop that stands by, without an engine, whose parent has this pid."""

    def start(parent: int | None) -> subprocess.Popen[str]:
        ahead = f'{{"model": "{mill.model}", "batch_tokens": 512, "batch_images": 16}}'
        command = [sys.executable, "-m", "embedmill", "worker", "--run", f"{runs_url}/*", "--name", "one"]
        command += ["--parent", str(parent)] if parent is not None else []
        return subprocess.Popen(
            [*command, "--ahead", ahead],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def test_a_loop_that_nobody_needs_ends_without_a_word(
    alone: Callable[[int | None], subprocess.Popen[str]],
) -> None:
    loop = alone(os.getpid())
    assert (*loop.communicate("", timeout=PATIENCE_S), loop.returncode) == ("", "", 0)


def test_half_a_line_is_no_run(alone: Callable[[int | None], subprocess.Popen[str]]) -> None:
    loop = alone(None)
    assert (*loop.communicate("file:///half", timeout=PATIENCE_S), loop.returncode) == ("", "", 0)


def test_a_loop_whose_parent_is_another_ends_although_its_pipe_is_open(
    alone: Callable[[int | None], subprocess.Popen[str]],
) -> None:
    loop = alone(1)
    assert loop.wait(timeout=PATIENCE_S) == 0
    loop.communicate()


def test_a_loop_that_is_told_nonsense_says_so(alone: Callable[[int | None], subprocess.Popen[str]]) -> None:
    loop = alone(os.getpid())
    _, said = loop.communicate("nonsense\n", timeout=PATIENCE_S)
    assert (loop.returncode, "--run" in said) == (2, True), said


def test_sigterm_ends_a_loop_that_stands_by(alone: Callable[[int | None], subprocess.Popen[str]]) -> None:
    loop = alone(os.getpid())
    loop.send_signal(signal.SIGTERM)
    assert loop.wait(timeout=PATIENCE_S) != 0
    loop.communicate()


def test_a_model_that_cannot_be_opened_is_told_by_the_loop_that_needs_it(
    engine: LocalEngine, mill: Mill, planned: PlannedRun, runs_url: str, tmp_path: Path
) -> None:
    """The planned one is in the store, and it is that which counts."""
    engine.stand_by(runs_url, [ONE], Opening(str(tmp_path / "absent"), 512, 16))
    engine.start(planned.url, [ONE])
    assert [state.exit_code for state in wait_for_the_end(engine)] == [0]
    assert work_state(planned.home, planned.plan).complete
