"""The engine for Ray, on a real cluster whose nodes are network namespaces."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.contracts.engine_suite import (
    EngineSuite,
    loops_on,
    planned,
    wait_for_loops,
    wait_until_it_works,
    waiting,
)
from tests.ray_group.loops import SMALL, Make, actor_of, await_gone, ended, pass_the_silence, place, until
from tests.support.patience import PATIENCE_S
from tests.support.ray_cluster import NodeSetup, RayCluster, RayNode

from embedmill.engines import Engine
from embedmill.engines.ray import Connection, Family
from embedmill.engines.ray.bridge import Bridge
from embedmill.errors import EngineRefused, EngineUnavailable
from embedmill.planned import PlannedRun
from embedmill.release.runs import work_state
from embedmill.spec.ray import GPU_MEMORY_LABEL
from embedmill.types import Placement, WorkerState

__all__ = ["planned", "waiting"]
KEEP_S = 20.0
"""Longer than anybody who asks may hang meanwhile."""
JOINED = Family("joined", memory_mib=512, labels={"pool": "joined"})


class TestRayEngine(EngineSuite):
    @pytest.fixture
    def engine(self, make: Make) -> Engine:
        return make()

    @pytest.fixture
    def place(self) -> Callable[[str], Placement]:
        return place


# Who starts loops, and who finds them


def test_whoever_starts_the_same_loops_later_finds_them_running(make: Make, waiting: PlannedRun) -> None:
    first = make()
    first.start(waiting.url, [place("one"), place("two")])
    loops = wait_for_loops(waiting, 2)
    second = make()
    second.start(waiting.url, [place("one"), place("two")])
    until(second, "one", lambda state: not state.waits, "found")
    assert sorted(wait_for_loops(waiting, 2), key=str) == sorted(loops, key=str)
    second.stop()
    assert loops_on(waiting) == []
    assert ended(first, "one").exit_code != 0


def test_loops_of_two_runs_never_are_taken_for_each_other(
    make: Make, waiting: PlannedRun, planned: PlannedRun
) -> None:
    here, there = make(), make()
    here.start(waiting.url, [place("one")])
    wait_for_loops(waiting, 1)
    there.start(planned.url + "x", [place("one")])
    assert ended(there, "one").exit_code == 1
    assert until(here, "one", lambda state: not state.waits, "found") == WorkerState("one", None)


def test_an_actor_that_nobody_asks_for_any_more_ends_itself(
    make: Make, waiting: PlannedRun, connection: Connection
) -> None:
    engine = make(keep_s=KEEP_S)
    engine.start(waiting.url, [place("one")])
    (loop,) = wait_for_loops(waiting, 1)
    actor = actor_of(loop)
    loop.kill()
    assert ended(engine, "one").exit_code == -signal.SIGKILL
    actor.wait(PATIENCE_S)  # whoever asked whether it is there would keep it
    await_gone(connection, engine._name("one"))


# What a loop gets, and what it may take


def test_secrets_reach_the_loop_and_never_the_control_store(
    make: Make, waiting: PlannedRun, cluster: RayCluster
) -> None:
    canary = os.urandom(12).hex()
    engine = make(secrets=lambda: {"CANARY": canary})
    engine.start(waiting.url, [place("canary-bird")])
    (loop,) = wait_for_loops(waiting, 1)
    wait_until_it_works(waiting, "canary-bird")
    assert canary in memory_of(loop.pid)
    assert canary not in str(loop.cmdline()) + str(loop.environ())
    (store,) = [pid for pid in cluster.head.pids() if "gcs_server" in command_of(pid)]
    told = memory_of(store)
    assert "canary-bird" in told
    assert canary not in told
    logs = [file.read_text(errors="replace") for file in cluster.logs()]
    assert canary not in "".join(logs)


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:  # it has ended
        return ""


def memory_of(pid: int) -> str:
    """All that a process has written to its memory."""
    found = []
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:  # noqa: PTH123 - seeks
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights = line.split()[:2]
            if "w" in rights:
                start, end = (int(each, 16) for each in span.split("-"))
                try:
                    memory.seek(start)
                    found.append(memory.read(end - start))
                except (OSError, OverflowError, ValueError):
                    continue
    return b"".join(found).decode("latin-1")


def test_a_loop_that_takes_more_memory_than_its_family_has_is_ended_with_words(
    make: Make, waiting: PlannedRun
) -> None:
    greedy = "held = bytearray(700 << 20); import time; time.sleep(600)"
    engine = make()
    engine.start(waiting.url, [place("one", command=(sys.executable, "-c", greedy))])
    state = ended(engine, "one")
    assert state.exit_code == -signal.SIGKILL
    assert re.fullmatch(r"its worker took \d+ MiB of memory, and may take 512", state.said)


def test_another_version_on_the_node_is_said_and_nothing_is_started(
    make: Make, waiting: PlannedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedmill.engines.ray.engine.version", lambda _: "9.9")
    engine = make()
    engine.start(waiting.url, [place("one")])
    state = ended(engine, "one")
    assert state.exit_code == 126
    assert re.fullmatch(r"10\.79\.\d+\.\d+ has embedmill 0\.1\.0, and the run 9\.9", state.said)
    assert loops_on(waiting) == []


def test_a_node_without_embedmill_is_said(
    make: Make, waiting: PlannedRun, cluster: RayCluster, tmp_path: Path
) -> None:
    (tmp_path / "embedmill").mkdir()
    (tmp_path / "embedmill" / "__init__.py").touch()
    other = NodeSetup(labels={"pool": "bare"}, environment={"PYTHONPATH": str(tmp_path)})
    node = cluster.join(other)
    try:
        engine = make(Family("cpu", memory_mib=512, labels={"pool": "bare"}))
        engine.start(waiting.url, [place("one")])
        state = ended(engine, "one")
        assert state.exit_code == 126
        assert "is embedmill installed there?" in state.said
    finally:
        cluster.remove(node)


def test_a_program_that_is_not_on_the_node_is_said(make: Make, waiting: PlannedRun) -> None:
    engine = make()
    engine.start(waiting.url, [place("one", command=("/nowhere/embedmill",))])
    state = ended(engine, "one")
    assert (state.exit_code, state.said.split(": ", 1)[1]) == (
        126,
        "/nowhere/embedmill: No such file or directory",
    )


# Nodes come and go


def test_a_loop_waits_for_a_node_and_begins_when_one_joins(
    make: Make, planned: PlannedRun, cluster: RayCluster
) -> None:
    engine = make(Family("cpu", memory_mib=512, labels={"pool": "late"}))
    engine.start(planned.url, [place("one")])
    time.sleep(2.0)
    assert engine.states() == [WorkerState("one", None, waits=True)]
    node = cluster.join(NodeSetup(labels={"pool": "late"}))
    try:
        assert ended(engine, "one").exit_code == 0
        assert work_state(planned.home, planned.plan).complete
    finally:
        engine.stop()
        cluster.remove(node)


def test_a_loop_takes_no_more_of_a_gpu_than_its_node_says(
    make: Make, waiting: PlannedRun, cluster: RayCluster
) -> None:
    node = cluster.join(NodeSetup(labels={"pool": "lent", GPU_MEMORY_LABEL: "8000"}))
    try:
        make(Family("cpu", memory_mib=512, labels={"pool": "lent"})).start(waiting.url, [place("one")])
        (loop,) = wait_for_loops(waiting, 1)
        words = loop.cmdline()
        assert words[words.index("--gpu-memory") + 1] == "8000"
        loop.kill()
    finally:
        cluster.remove(node)


def test_a_killed_actor_is_started_again_and_its_loop_was_lost(make: Make, waiting: PlannedRun) -> None:
    engine = make()
    engine.start(waiting.url, [place("one")])
    (loop,) = wait_for_loops(waiting, 1)
    actor_of(loop).kill()
    loop.wait(PATIENCE_S)
    state = ended(engine, "one")
    assert (state.exit_code, state.said) == (255, "its node was lost: Ray has started its actor again")
    engine.start(waiting.url, [place("one")])
    assert wait_for_loops(waiting, 1) != [loop]
    until(engine, "one", lambda state: state == WorkerState("one", None), "at work")


def test_the_processes_of_a_node_may_all_die(joined: RayNode, make: Make, waiting: PlannedRun) -> None:
    elsewhere = replace(SMALL, labels={"pool": "large"})  # it would else take the place on the node that dies
    engine = make(elsewhere, JOINED)
    engine.start(waiting.url, [place("one"), place("two", image="joined")])
    for worker in ("one", "two"):
        until(engine, worker, lambda state: state == WorkerState(state.worker, None), "at work")
    wait_for_loops(waiting, 2)
    joined.kill()
    pass_the_silence(engine, "two")
    assert ended(engine, "two").exit_code == 255
    assert {state.worker: state.exit_code for state in engine.states()}["one"] is None


# The cluster and who asks it


def test_the_cluster_is_reached_from_a_machine_that_is_no_node(
    make: Make, planned: PlannedRun, cluster: RayCluster, connection: Connection
) -> None:
    with cluster.outside():
        engine = make(connection=replace(connection, address=cluster.client_address))
        assert {node.address for node in engine.nodes() if node.alive} >= {
            node.address for node in cluster.nodes
        }
        engine.start(planned.url, [place("one")])
        assert ended(engine, "one").exit_code == 0
        engine.stop()


def test_a_process_that_speaks_to_ray_may_be_killed_at_any_time(make: Make, waiting: PlannedRun) -> None:
    engine = make()
    engine.start(waiting.url, [place("one")])
    (loop,) = wait_for_loops(waiting, 1)
    until(engine, "one", lambda state: not state.waits, "at work")
    speaker = engine._bridge._process
    assert speaker is not None
    speaker.kill()
    speaker.wait(PATIENCE_S)
    loop.kill()
    assert ended(engine, "one").exit_code == -signal.SIGKILL
    assert engine._bridge._process is not speaker


@pytest.mark.parametrize("how", ["wrong token", "no token"])
def test_a_wrong_token_is_refused_with_words(
    make: Make, connection: Connection, tmp_path: Path, how: str
) -> None:
    (tmp_path / "token").write_text("f" * 64)
    wrong = replace(connection, token_file=str(tmp_path / "token") if how == "wrong token" else None)
    with pytest.raises(EngineRefused, match=rf"^Ray at {re.escape(connection.address)}: ") as said:
        make(connection=wrong).nodes()
    assert "ray.token_file" in said.value.hint


def test_a_cluster_that_is_not_there_is_said_in_time(connection: Connection) -> None:
    begun_s = time.monotonic()
    nobody = replace(connection, address=connection.address.replace(":6379", ":9"))
    with pytest.raises(EngineUnavailable, match=r"^Ray at 10\.79\.\d+\.\d+:9: ") as said:
        Bridge(nobody, connect_s=5.0).ask(5.0, "nodes")
    assert time.monotonic() - begun_s < 60, "Ray itself would try for minutes"
    assert said.value.exit_code == 75


def test_another_version_of_ray_is_refused_with_both(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node whose Ray says that it is another one: what it is called is all that is compared."""
    (tmp_path / "sitecustomize.py").write_text("import ray\nray.__version__ = '2.99.0'\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(EngineRefused, match=r"2\.99\.0") as said:
        make().nodes()
    assert "the same Ray and the same Python" in said.value.hint


def test_metrics_tell_how_far_each_worker_is(make: Make, planned: PlannedRun, cluster: RayCluster) -> None:
    engine = make()
    engine.start(planned.url, [place("measured")])
    ended(engine, "measured")
    deadline_s = time.monotonic() + PATIENCE_S
    while (rows := rows_of(cluster, "measured", planned.plan.run)) != 12:
        assert time.monotonic() < deadline_s, f"{rows} rows of 12 in the metrics"
        time.sleep(0.5)


def rows_of(cluster: RayCluster, worker: str, run: str) -> float | None:
    """How many rows the cluster's metrics tell of a worker on a run; None while they tell nothing."""
    told = [each for each in cluster.metrics().splitlines() if each.startswith("ray_embedmill_rows{")]
    found = [each for each in told if worker in each and f'run="{run}"' in each]
    return float(found[0].rpartition(" ")[2]) if found else None
