"""The engine for Jenkins, held to the suite of all engines: its builds are executed, their loops are real.

What a controller answers, and what then becomes of loops, is in tests/engines/test_jenkins.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.contracts.controller_suite import ControllerSuite
from tests.contracts.engine_suite import (
    EngineSuite,
    loops_on,
    planned,
    wait_for_loops,
    wait_for_the_end,
    wait_until_it_works,
    waiting,
)
from tests.jenkins_group.controller import LABEL, WorkerJob
from tests.jenkins_group.farm import SECRET
from tests.support.mill import Mill

from embedmill.engines import Engine, JenkinsEngine
from embedmill.engines.jenkins import Jenkins
from embedmill.planned import PlannedRun
from embedmill.types import Host, Placement

__all__ = ["planned", "waiting"]


@pytest.fixture
def job(mill: Mill, tmp_path: Path, groovy: dict[str, str]) -> Iterator[WorkerJob]:
    mill.open()
    secrets = {"STORE_KEY": "store-key"}
    with WorkerJob.deployed(tmp_path / "jenkins", mill.root / "pipeline.yaml", groovy, secrets) as job:
        yield job
        assert not job.strange, "the engine asks what it need not"


def engine_on(job: WorkerJob) -> JenkinsEngine:
    return JenkinsEngine(Jenkins(job.url, job.job), every_s=0.2, start_s=60.0, grace_s=60.0)


def place_of(worker: str, label: str = LABEL) -> Placement:
    return Placement(worker, host=Host(label, (), ""))


class TestJenkinsEngine(EngineSuite):
    @pytest.fixture
    def engine(self, job: WorkerJob) -> Iterator[Engine]:
        engine = engine_on(job)
        yield engine
        engine.stop()

    @pytest.fixture
    def place(self) -> Callable[[str], Placement]:
        return place_of


class TestController(ControllerSuite):
    @pytest.fixture
    def settings(self, mill: Mill, tmp_path: Path, groovy: dict[str, str]) -> Iterator[dict[str, object]]:
        mill.open()
        with WorkerJob.deployed(tmp_path / "jenkins", mill.root / "pipeline.yaml", groovy) as job:
            yield {"engine": "jenkins", "jenkins": job.section(mill.root, workers=2)}
            assert len(job.all_builds) == 2, "builds that went on were found: none was started twice"


def test_an_aborted_build_gives_its_place_back_and_others_find_the_run_as_it_was(
    job: WorkerJob, waiting: PlannedRun
) -> None:
    engine = engine_on(job)
    engine.start(waiting.url, [place_of("one")])
    wait_for_loops(waiting, 1)
    wait_until_it_works(waiting, "one")
    job.refresh()
    assert job.build_of("one")["description"] in {"works on agent-a", "works on agent-b"}
    Jenkins(job.url, job.job).stop(1)
    (state,) = wait_for_the_end(engine)
    assert (state.exit_code, state.said) == (75, "build 1 was aborted")
    assert loops_on(waiting) == []
    assert SECRET not in job.log(1)
    engine.stop()


def test_a_run_of_a_pipeline_that_the_library_does_not_know_is_refused_before_anything_is_run(
    job: WorkerJob, planned: PlannedRun
) -> None:
    engine = engine_on(job)
    engine.start(planned.url.replace("/mill/", "/other/"), [place_of("one")])
    (state,) = wait_for_the_end(engine)
    assert (state.exit_code, "without a word" in state.said) == (70, True)
    assert "a run of no pipeline that this library knows" in job.log(1)
    assert not list(job.home.glob("agent-*/workspace"))
    engine.stop()
