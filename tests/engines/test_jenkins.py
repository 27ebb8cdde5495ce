"""The engine for Jenkins, on a controller whose builds the tests change: what it makes of answers.

Builds that are executed, with real loops in them, are in tests/jenkins_group.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator

import pytest
from tests.support.fake_jenkins import Answer
from tests.support.jenkins_job import JenkinsJob, parameters_of

from embedmill.engines.jenkins import Jenkins, JenkinsEngine
from embedmill.engines.jenkins.observed import ending, observed
from embedmill.errors import JenkinsError, JenkinsUnavailable, SpecError
from embedmill.types import Host, Placement, WorkerState

RUN = "s3://mill/shop/runs/20260101T000000000-0000"
TOKEN = "11aa22bb-token"  # noqa: S105 - of a fake


@pytest.fixture
def job() -> Iterator[JenkinsJob]:
    with JenkinsJob(job="team/worker", user="me", token=TOKEN) as found:
        yield found
        assert not found.strange, "the engine asks what it need not"


@pytest.fixture
def engine(job: JenkinsJob) -> Iterator[JenkinsEngine]:
    found = engine_on(job)
    yield found
    job.status, job.lost_answers = 0, 0
    found.stop()


def engine_on(job: JenkinsJob, **settings: float) -> JenkinsEngine:
    quick = {"every_s": 0.02, "start_s": 60.0, "grace_s": 1.0}
    return JenkinsEngine(Jenkins(job.url, job.job, job.user, job.token), **{**quick, **settings})


def place(worker: str, label: str = "gpu", device: str = "cpu") -> Placement:
    return Placement(worker, device=device, threads=2, host=Host(label, (), ""))


def until(engine: JenkinsEngine, worker: str, wanted: Callable[[WorkerState], bool]) -> WorkerState:
    deadline_s = time.monotonic() + 60
    while True:
        state = next(state for state in engine.states() if state.worker == worker)
        if wanted(state):
            return state
        assert time.monotonic() < deadline_s, state
        time.sleep(0.01)


def ended(state: WorkerState) -> bool:
    return state.exit_code is not None


def test_a_loop_is_a_build_with_its_parameters_and_none_is_a_secret(
    job: JenkinsJob, engine: JenkinsEngine
) -> None:
    engine.start(RUN, [place("one", device="cuda:1"), place("two")])
    assert parameters_of(job.build_of("one")) == {
        "RUN": RUN,
        "WORKER": "one",
        "LABEL": "gpu",
        "DEVICE": "cuda:1",
        "THREADS": "2",
    }
    assert len(job.all_builds) == 2
    assert TOKEN not in str(job.all_builds)


def test_a_loop_waits_in_the_queue_and_then_for_an_agent_and_then_runs(
    job: JenkinsJob, engine: JenkinsEngine
) -> None:
    job.executors = 0
    engine.start(RUN, [place("one")])
    assert until(engine, "one", lambda state: "executor" in state.said).waits
    job.executors = 1
    assert until(engine, "one", lambda state: "waits for an agent" in state.said).waits
    job.build_of("one")["description"] = "works on gpu-07"
    assert until(engine, "one", lambda state: "gpu-07" in state.said) == WorkerState(
        "one", None, "works on gpu-07"
    )


@pytest.mark.parametrize(
    ("description", "result", "exit_code", "said"),
    [
        ("ended with exit code 0", "SUCCESS", 0, ""),
        ("ended with exit code 75: was asked to stop", "SUCCESS", 75, "was asked to stop"),
        ("ended with exit code -9", "FAILURE", -9, ""),
        ("ended with exit code 1: no run: x", "FAILURE", 1, "no run: x"),
        ("works on gpu-07", "ABORTED", 75, "build 1 was aborted"),
        ("works on gpu-07", "FAILURE", 70, "build 1 ended as FAILURE without a word of its loop"),
        (None, "NOT_BUILT", 70, "build 1 ended as NOT_BUILT without a word of its loop"),
    ],
)
def test_how_a_build_ended_is_how_its_loop_did(
    job: JenkinsJob,
    engine: JenkinsEngine,
    description: str | None,
    result: str,
    exit_code: int,
    said: str,
) -> None:
    engine.start(RUN, [place("one")])
    job.build_of("one").update(description=description, building=False, result=result)
    assert until(engine, "one", ended) == WorkerState("one", exit_code, said)


def test_a_loop_that_ended_is_started_anew_and_one_that_runs_is_not(
    job: JenkinsJob, engine: JenkinsEngine
) -> None:
    engine.start(RUN, [place("one"), place("two")])
    job.build_of("one").update(description="ended with exit code 75", building=False, result="SUCCESS")
    until(engine, "one", ended)
    engine.start(RUN, [place("one"), place("two")])
    assert [parameters_of(build)["WORKER"] for build in job.all_builds.values()] == ["one", "two", "one"]
    assert {state.exit_code for state in engine.states()} == {None}


def test_whoever_starts_the_same_loops_later_finds_their_builds(
    job: JenkinsJob, engine: JenkinsEngine
) -> None:
    job.executors = 1
    engine.start(RUN, [place("one"), place("two")])
    second = engine_on(job)
    second.start(RUN, [place("one"), place("two")])
    assert (len(job.all_builds), len(job.queue)) == (1, 1)
    other = engine_on(job)
    other.start(RUN.replace("-0000", "-0001"), [place("one")])
    assert len(job.queue) == 2, "a loop of another run is another loop"
    other.stop()
    assert (len(job.queue), job.build_of("one")["building"]) == (1, True), "and is stopped alone"
    second.stop()


def test_no_answer_is_not_an_end(job: JenkinsJob, engine: JenkinsEngine) -> None:
    engine.start(RUN, [place("one")])
    job.status = 503
    asked = len(job.asked)
    while len(job.asked) < asked + 5:
        assert [state.exit_code for state in engine.states()] == [None]
        time.sleep(0.01)
    job.status = 0
    job.build_of("one").update(description="ended with exit code 0", building=False, result="SUCCESS")
    assert until(engine, "one", ended).exit_code == 0


def test_a_long_silence_is_told_and_over_when_there_is_an_answer(job: JenkinsJob) -> None:
    engine = engine_on(job, silent_s=0.2)
    engine.start(RUN, [place("one")])
    job.status = 503
    state = until(engine, "one", ended)
    assert (state.exit_code, "503" in state.said) == (255, True)
    job.status = 0
    until(engine, "one", lambda state: state.exit_code is None)
    engine.stop()


def test_a_start_whose_answer_is_lost_makes_one_build(job: JenkinsJob, engine: JenkinsEngine) -> None:
    job.lost_answers = 1
    engine.start(RUN, [place("one"), place("two")])
    assert job.lost_answers == 0
    assert sorted(parameters_of(build)["WORKER"] for build in job.all_builds.values()) == ["one", "two"]


def test_a_start_without_any_answer_ends_with_words_and_may_be_made_again(job: JenkinsJob) -> None:
    engine = engine_on(job, start_s=0.2)
    job.status = 503
    with pytest.raises(JenkinsUnavailable, match="503"):
        engine.start(RUN, [place("one")])
    job.status = 0
    engine.start(RUN, [place("one")])
    assert len(job.all_builds) == 1
    engine.stop()


def test_who_waits_for_an_answer_hears_of_it(
    job: JenkinsJob, engine: JenkinsEngine, caplog: pytest.LogCaptureFixture
) -> None:
    class Mends(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            job.status = 0

    logger, mends = logging.getLogger("embedmill.engines"), Mends()
    logger.addHandler(mends)
    job.status = 503
    try:
        engine.start(RUN, [place("one")])
    finally:
        logger.removeHandler(mends)
    waits, answers = [record.getMessage() for record in caplog.records]
    assert "Jenkins answers 503; trying again for up to" in waits
    assert answers.startswith("Jenkins answers again, after ")
    assert len(job.all_builds) == 1


def test_a_controller_that_says_no_is_quoted(job: JenkinsJob) -> None:
    engine = JenkinsEngine(Jenkins(job.url, job.job, "me", "another"))
    with pytest.raises(JenkinsError, match="401"):
        engine.start(RUN, [place("one")])
    engine.stop()


def test_what_somebody_takes_out_of_the_queue_was_given_back(job: JenkinsJob, engine: JenkinsEngine) -> None:
    job.executors = 0
    engine.start(RUN, [place("one")])
    with job.lock:
        (item,) = job.queue
        job.cancelled_items.add(item)
        job.queue.clear()
    assert until(engine, "one", ended) == WorkerState("one", 75, f"queue item {item} was cancelled")


@pytest.mark.parametrize("status", [403, 200], ids=["refused", "a page of a proxy"])
def test_a_build_that_may_not_be_seen_for_a_while_is_not_started_anew(
    job: JenkinsJob, engine: JenkinsEngine, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    engine.start(RUN, [place("one")])
    hide(job, monkeypatch, status)
    asked = len(job.asked)
    while len(job.asked) < asked + 8:
        assert [state.exit_code for state in engine.states()] == [None]
        time.sleep(0.01)
    monkeypatch.undo()
    job.build_of("one").update(description="ended with exit code 0", building=False, result="SUCCESS")
    assert until(engine, "one", ended).exit_code == 0
    assert len(job.all_builds) == 1


def test_a_build_that_is_not_there_any_more_was_deleted(
    job: JenkinsJob, engine: JenkinsEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.start(RUN, [place("one")])
    until(engine, "one", lambda state: not state.waits or "agent" in state.said)
    hide(job, monkeypatch, 404)
    assert until(engine, "one", ended) == WorkerState("one", 70, "build 1 was deleted")
    monkeypatch.undo()


def hide(job: JenkinsJob, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    """No list has the builds, and who asks for one gets this answer."""
    tell = job._tell

    def hidden(where: str, path: str) -> Answer:
        if where == f"{path}/api/json":
            return 200, {}, {"allBuilds": []}
        return (
            (status, {}, None)
            if where.startswith(f"{path}/") or "/queue/item/" in where
            else tell(where, path)
        )

    monkeypatch.setattr(job, "_tell", hidden)


def test_stop_empties_the_queue_and_ends_builds(job: JenkinsJob, engine: JenkinsEngine) -> None:
    job.executors = 1
    engine.start(RUN, [place("one"), place("two")])
    engine.stop()
    assert job.queue == {}
    assert [build["result"] for build in job.all_builds.values()] == ["ABORTED"]
    assert engine.states() == []


def test_a_build_that_does_not_stop_is_killed(job: JenkinsJob, monkeypatch: pytest.MonkeyPatch) -> None:
    killed = []

    def end(build: dict[str, object], *, hard: bool) -> None:
        if hard:
            killed.append(build["number"])
            build.update(building=False, result="ABORTED")

    monkeypatch.setattr(job, "end", end)
    engine = engine_on(job, grace_s=0.1)
    engine.start(RUN, [place("one")])
    engine.stop()
    assert killed == [1]


def test_a_stop_without_any_answer_ends_and_leaves_builds_to_their_limit(job: JenkinsJob) -> None:
    engine = engine_on(job)
    engine.start(RUN, [place("one")])
    job.status = 503
    engine.stop()
    assert engine.states() == []
    assert job.build_of("one")["building"]


@pytest.mark.parametrize(
    "wrong",
    [place("one; id"), place("one", label="gpu || !gpu"), place("one", device="cuda $(id)"), place("--one")],
)
def test_texts_that_would_need_quotes_are_refused(engine: JenkinsEngine, wrong: Placement) -> None:
    with pytest.raises(SpecError, match="cannot be a parameter of a build"):
        engine.start(RUN, [wrong])
    with pytest.raises(SpecError, match="the run's URL"):
        engine.start("/srv/my mill/shop/runs/1", [place("one")])


def test_last_words_are_told_in_plain_characters() -> None:
    assert ending(1, "<b>`id`\n $(rm)'x' \U0001f9f5") == "ended with exit code 1: b id (rm) x"
    assert len(ending(1, "x" * 10_000)) < 500
    build = {"number": 3, "queueId": 9, "building": False, "description": ending(75, "asked: to stop")}
    asked = {"actions": [{"parameters": [{"name": "RUN", "value": RUN}, {"name": "WORKER", "value": "w"}]}]}
    seen = observed([{**build, **asked}], [], RUN)["w"]
    assert (seen.exit_code, seen.said) == (75, "asked: to stop")
