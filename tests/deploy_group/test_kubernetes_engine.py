"""The engine for Kubernetes, on an API server of our own whose pods run the real worker.

What only a real cluster can show is in docs/kubernetes.md.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.contracts.engine_suite import (
    MISSING,
    EngineSuite,
    loops_on,
    planned,
    wait_for_loops,
    wait_for_the_end,
    wait_until_it_works,
    waiting,
)
from tests.support.kubernetes_api import NAMESPACE, ApiServer, Trouble
from tests.support.kubernetes_cluster import Cluster as Machines
from tests.support.patience import until

from embedmill.engines import Engine, KubernetesEngine
from embedmill.engines.kubernetes import Cluster, Family
from embedmill.errors import EngineRefused, EngineUnavailable, SpecError
from embedmill.planned import PlannedRun
from embedmill.release.runs import work_state
from embedmill.types import Placement, WorkerState

__all__ = ["planned", "waiting"]
EMBEDMILL = (sys.executable, "-m", "embedmill")
IMAGE = f"registry.internal/worker@sha256:{'ab' * 32}"
FAMILY = Family("cpu", IMAGE)


@dataclass
class Here:
    """A cluster in this process, its API server, and engines that ask it."""

    machines: Machines
    api: ApiServer
    engines: list[KubernetesEngine] = field(default_factory=list)

    def engine(self, cluster: Cluster | None = None, **settings: Any) -> KubernetesEngine:
        quick = {"every_s": 0.1, "answer_s": 60.0, "start_s": 60.0}
        self.engines.append(
            KubernetesEngine(
                cluster or Cluster(namespace=NAMESPACE, grace_s=5), {"cpu": FAMILY}, **{**quick, **settings}
            )
        )
        return self.engines[-1]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Here]:
    with Machines(tmp_path / "pods") as machines, ApiServer(machines) as api:
        monkeypatch.setenv("KUBECONFIG", str(api.kubeconfig(tmp_path / "kubeconfig")))
        found = Here(machines, api)
        yield found
        api.deaf, api.troubles = False, []
        for engine in found.engines:
            engine.stop()
        assert not api.strange, "the engine asks what it need not"


def place(worker: str, **changed: Any) -> Placement:
    return Placement(worker, **{"image": "cpu", "command": EMBEDMILL, **changed})


class TestKubernetesEngine(EngineSuite):
    @pytest.fixture
    def engine(self, here: Here) -> Engine:
        return here.engine()

    @pytest.fixture
    def place(self) -> Callable[[str], Placement]:
        return place


def states(engine: Engine) -> dict[str, int | None]:
    return {state.worker: state.exit_code for state in engine.states()}


def until_state(engine: Engine, worker: str, code: int | None) -> WorkerState:
    until(lambda: states(engine).get(worker, "unknown") == code, f"{worker} is {code}")
    return next(state for state in engine.states() if state.worker == worker)


def complete(run: PlannedRun) -> bool:
    return work_state(run.home, run.plan).complete


def forget(run: PlannedRun, worker: str) -> None:
    """What a loop that has ended told of itself: the next one tells anew when it works."""
    run.home.store.delete(run.home.run_key(run.plan.run, "events", f"{worker}.json"))


def test_loops_of_a_family_are_indexes_of_one_job(here: Here, planned: PlannedRun) -> None:
    engine = here.engine()
    engine.start(planned.url, [place("cpu-0"), place("cpu-1")])
    (job,) = here.machines.jobs.values()
    assert job["spec"]["completions"] == 2
    assert {state.exit_code for state in wait_for_the_end(engine)} == {0}
    assert complete(planned)


def test_a_yield_is_told_and_its_pod_made_again_without_being_counted(
    here: Here, waiting: PlannedRun
) -> None:
    engine = here.engine(Cluster(namespace=NAMESPACE, grace_s=5, retries=0))
    engine.start(waiting.url, [place("cpu-0")])
    (loop,) = wait_for_loops(waiting, 1)
    for _ in range(3):
        wait_until_it_works(waiting, "cpu-0")
        loop.terminate()
        assert "asked to stop" in until_state(engine, "cpu-0", 75).said
        forget(waiting, "cpu-0")
        engine.start(waiting.url, [place("cpu-0")])
        assert states(engine) == {"cpu-0": None}
        until(lambda: bool(loops_on(waiting)), "the pod is made again")
        (loop,) = loops_on(waiting)
    (job,) = here.machines.jobs.values()
    assert "failedIndexes" not in job["status"]


def test_an_evicted_pod_was_taken_away_whatever_it_ended_with(here: Here, waiting: PlannedRun) -> None:
    engine = here.engine(Cluster(namespace=NAMESPACE, grace_s=5, retries=0))
    engine.start(waiting.url, [place("cpu-0"), place("cpu-1")])
    wait_for_loops(waiting, 2)
    wait_until_it_works(waiting, "cpu-0")
    evicted = here.machines.pod("cpu-0")
    assert evicted is not None
    here.machines.evict(evicted, "PreemptionByScheduler")
    until(lambda: (pod := here.machines.pod("cpu-0")) is not None and pod is not evicted, "a replacement")
    wait_for_loops(waiting, 2)
    assert states(engine) == {"cpu-0": None, "cpu-1": None}
    (job,) = here.machines.jobs.values()
    assert "failedIndexes" not in job["status"]


def test_a_killed_pod_counts_until_its_index_has_failed_and_then_a_start_makes_a_new_job(
    here: Here, waiting: PlannedRun
) -> None:
    engine = here.engine(Cluster(namespace=NAMESPACE, grace_s=5, retries=1))
    engine.start(waiting.url, [place("cpu-0")])
    for _ in range(2):
        (loop,) = wait_for_loops(waiting, 1)
        loop.kill()
        until_state(engine, "cpu-0", -signal.SIGKILL)
        engine.start(waiting.url, [place("cpu-0")])
    until(lambda: len(here.machines.jobs) == 2 or bool(loops_on(waiting)), "a third pod")
    first, second = here.machines.jobs.values()
    assert first["status"]["failedIndexes"] == "0"
    assert second["metadata"]["name"] == first["metadata"]["name"][:-1] + "2"
    assert states(engine) == {"cpu-0": None}


def test_exit_42_fails_its_index_at_once_and_the_others_go_on(here: Here, waiting: PlannedRun) -> None:
    engine = here.engine()
    unfit = place("unfit", command=("/bin/sh", "-c", "echo no GPU here; exit 42"))
    engine.start(waiting.url, [place("one"), unfit])
    assert until_state(engine, "unfit", 42).said == "no GPU here"
    wait_for_loops(waiting, 1)
    by_worker = {
        job["metadata"]["annotations"]["embedmill/worker"]: job for job in here.machines.jobs.values()
    }
    until(lambda: by_worker["unfit"]["status"].get("failedIndexes") == "0", "FailIndex")
    assert len(here.machines.pods_of(by_worker["unfit"]["metadata"]["name"])) == 1
    assert states(engine)["one"] is None


def test_a_loop_that_says_what_is_wrong_is_not_tried_again_by_the_cluster(
    here: Here, planned: PlannedRun
) -> None:
    engine = here.engine()
    engine.start(planned.url.replace(planned.plan.run, MISSING), [place("one")])
    assert "no run" in until_state(engine, "one", 1).said
    time.sleep(2 * here.machines.backoff_s)
    assert len(here.machines.pods) == 1


def test_a_pod_of_a_lost_node_is_lost_and_its_shards_go_to_others(here: Here, planned: PlannedRun) -> None:
    engine = here.engine()
    sleeper = place("sleeper", command=("/bin/sh", "-c", "exec sleep 600"))
    engine.start(planned.url, [sleeper])
    until(lambda: any(pod.process for pod in here.machines.pods.values()), "it runs")
    (lost,) = here.machines.pods.values()
    here.machines.lose_node(lost)
    assert "node-0 does not say that it has" in until_state(engine, "sleeper", 255).said
    engine.start(planned.url, [sleeper, place("other")])
    until_state(engine, "other", 0)
    assert complete(planned)
    assert states(engine)["sleeper"] == 255
    assert len(here.machines.pods) == 2, "nothing is started in place of a pod that may still run"
    here.machines.collect(lost)
    until(lambda: states(engine)["sleeper"] is None, "the node is deleted: the pod is replaced")


def test_whoever_starts_the_same_loops_later_finds_them_running(here: Here, waiting: PlannedRun) -> None:
    first = here.engine()
    first.start(waiting.url, [place("cpu-0"), place("cpu-1")])
    loops = wait_for_loops(waiting, 2)
    second = here.engine()
    second.start(waiting.url, [place("cpu-0"), place("cpu-1")])
    assert len(here.machines.jobs) == 1
    assert sorted(wait_for_loops(waiting, 2), key=str) == sorted(loops, key=str)
    second.stop()
    assert loops_on(waiting) == []
    assert until_state(first, "cpu-0", -15).said.endswith("was deleted")


def test_pods_open_the_store_with_a_secret_that_no_manifest_has(here: Here, planned: PlannedRun) -> None:
    canary = "canary-5f1c9a"
    here.machines.secrets["mill-keys"] = {"AWS_SECRET_ACCESS_KEY": canary}
    engine = here.engine(Cluster(namespace=NAMESPACE, grace_s=5, secret="mill-keys"))  # noqa: S106
    engine.start(planned.url, [place("env", command=("/usr/bin/env",))])
    until_state(engine, "env", 127)  # env was given `worker` for a program
    says = place("says", command=("/bin/sh", "-c", 'test -n "$AWS_SECRET_ACCESS_KEY" && exit 42'))
    engine.start(planned.url, [says])
    until_state(engine, "says", 42)
    assert canary not in str(here.machines.jobs) + str(engine.states())


def test_a_pod_that_waits_for_a_node_runs_as_far_as_anybody_knows_and_says_why(
    here: Here, waiting: PlannedRun
) -> None:
    here.machines.schedules = False
    engine = here.engine()
    engine.start(waiting.url, [place("cpu-0")])
    until(lambda: "0/3 nodes" in engine.states()[0].said, "the scheduler's words")
    assert states(engine) == {"cpu-0": None}
    here.machines.schedules = True
    wait_for_loops(waiting, 1)


# Troubles between the engine and the API server


@pytest.mark.parametrize(
    "trouble",
    [
        Trouble("POST", done=True),
        Trouble("POST"),
        Trouble("POST", status=503),
        Trouble("POST", status=500, done=True),
        Trouble("POST", status=429, headers={"Retry-After": "1"}),
        Trouble("POST", status=409, reason="Conflict"),
        Trouble("GET"),
        Trouble("GET", status=504),
    ],
    ids=lambda trouble: f"{trouble.method} {trouble.status or 'cut'}{' done' if trouble.done else ''}",
)
def test_a_start_that_gets_no_answer_is_made_again_and_makes_one_job(
    here: Here, planned: PlannedRun, trouble: Trouble
) -> None:
    here.api.troubles = [trouble]
    engine = here.engine()
    engine.start(planned.url, [place("cpu-0"), place("cpu-1")])
    assert not here.api.troubles, "it befell"
    assert len(here.machines.jobs) == 1
    assert {state.exit_code for state in wait_for_the_end(engine)} == {0}


def test_an_api_server_asks_for_patience_and_gets_it(here: Here, planned: PlannedRun) -> None:
    here.api.troubles = [Trouble("POST", status=429, headers={"Retry-After": "1"})]
    begun_s = time.monotonic()
    here.engine().start(planned.url, [place("cpu-0")])
    assert time.monotonic() - begun_s >= 1.0


def test_no_answer_is_not_an_end(here: Here, waiting: PlannedRun) -> None:
    engine = here.engine()
    engine.start(waiting.url, [place("cpu-0")])
    wait_for_loops(waiting, 1)
    here.api.deaf = True
    asked = len(here.api.asked)
    while len(here.api.asked) < asked + 5:
        assert states(engine) == {"cpu-0": None}
        time.sleep(0.05)
    here.api.deaf = False
    loops_on(waiting)[0].kill()
    until_state(engine, "cpu-0", -signal.SIGKILL)


def test_a_long_silence_is_told_and_over_when_there_is_an_answer(here: Here, waiting: PlannedRun) -> None:
    engine = here.engine(silent_s=0.5)
    engine.start(waiting.url, [place("cpu-0")])
    here.api.deaf = True
    assert "gives no answer" in until_state(engine, "cpu-0", 255).said
    here.api.deaf = False
    until_state(engine, "cpu-0", None)


def test_a_start_without_any_answer_is_told_and_may_be_made_again(here: Here, planned: PlannedRun) -> None:
    here.api.deaf = True
    engine = here.engine(start_s=1.0)
    with pytest.raises(EngineUnavailable, match=r"^http://127.0.0.1:\d+ .*gives no answer") as said:
        engine.start(planned.url, [place("cpu-0")])
    assert said.value.exit_code == 75
    here.api.deaf = False
    engine.start(planned.url, [place("cpu-0")])
    assert {state.exit_code for state in wait_for_the_end(engine)} == {0}


def test_a_start_that_waits_says_so(
    here: Here, planned: PlannedRun, caplog: pytest.LogCaptureFixture
) -> None:
    here.api.deaf, engine = True, here.engine()
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(engine.start, planned.url, [place("cpu-0")])
        until(lambda: "trying again for up to" in caplog.text or starting.done(), "a warning")
        here.api.deaf = False
        starting.result(60)
    assert f"(namespace {NAMESPACE}) answers again, after" in caplog.text


@pytest.mark.parametrize(
    ("status", "reason"), [(403, "Forbidden"), (404, "NotFound"), (422, "Invalid"), (401, "Unauthorized")]
)
def test_a_cluster_that_says_no_is_quoted(here: Here, planned: PlannedRun, status: int, reason: str) -> None:
    here.api.troubles = [Trouble("POST", status=status, reason=reason)]
    with pytest.raises(EngineRefused, match=rf"{status} {reason}: trouble"):
        here.engine().start(planned.url, [place("cpu-0")])


def test_lists_in_pages_are_read_to_their_end(here: Here, waiting: PlannedRun) -> None:
    here.api.page = 1
    engine = here.engine()
    engine.start(waiting.url, [place("one"), place("two"), place("cpu-0")])
    wait_for_loops(waiting, 3)
    until(lambda: bool(engine.states()) and asked_for_pages(here) > 3, "all pages")
    assert states(engine) == {"one": None, "two": None, "cpu-0": None}


def asked_for_pages(here: Here) -> int:
    return sum("continue=" in path for _, path in here.api.asked)


def test_a_list_that_is_too_old_is_begun_anew(here: Here, waiting: PlannedRun) -> None:
    here.api.page = 1
    engine = here.engine()
    engine.start(waiting.url, [place("one"), place("two")])
    wait_for_loops(waiting, 2)
    here.api.troubles = [Trouble("GET", status=410, reason="Expired", about="continue=")]
    until(lambda: not engine.states() or not here.api.troubles, "it befell")
    for loop in loops_on(waiting):
        loop.kill()
    until_state(engine, "one", -signal.SIGKILL)
    until_state(engine, "two", -signal.SIGKILL)


@pytest.mark.parametrize("trouble", [Trouble("DELETE"), Trouble("DELETE", done=True), Trouble("DELETE", 503)])
def test_a_stop_that_gets_no_answer_is_made_again(here: Here, waiting: PlannedRun, trouble: Trouble) -> None:
    engine = here.engine()
    engine.start(waiting.url, [place("cpu-0")])
    wait_for_loops(waiting, 1)
    here.api.troubles = [trouble]
    engine.stop()
    assert not here.api.troubles
    assert (here.machines.jobs, loops_on(waiting)) == ({}, [])


def test_a_stop_without_any_answer_ends_and_leaves_jobs_to_their_deadline(
    here: Here, waiting: PlannedRun
) -> None:
    engine = here.engine(answer_s=0.5)
    engine.start(waiting.url, [place("cpu-0")])
    here.api.deaf = True
    engine.stop()
    assert engine.states() == []
    here.api.deaf = False
    (job,) = here.machines.jobs.values()
    assert job["spec"]["activeDeadlineSeconds"] > 0
    again = here.engine()
    again.start(waiting.url, [place("cpu-0")])
    assert len(here.machines.jobs) == 1, "who comes later finds it"


def test_without_a_configuration_the_user_is_told_what_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planned: PlannedRun
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(SpecError, match="engine kubernetes: ") as said:
        KubernetesEngine(Cluster(), {"cpu": FAMILY}).start(planned.url, [place("one")])
    assert "KUBECONFIG" in said.value.hint


def test_a_family_that_nobody_knows_is_named(here: Here, planned: PlannedRun) -> None:
    with pytest.raises(SpecError, match="no family 'gpu'"):
        here.engine().start(planned.url, [place("one", image="gpu")])
