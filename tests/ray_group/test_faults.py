"""What the engine for Ray does where a part of it fails: no run hangs, no actor is left behind."""

from __future__ import annotations

import json
import signal
import tempfile
import threading
import time
from pathlib import Path

import pytest
from tests.contracts.engine_suite import loops_on, planned, wait_for_loops, wait_until_it_works, waiting
from tests.ray_group.loops import (
    SMALL,
    Make,
    actor_of,
    await_begun,
    await_death,
    await_gone,
    ended,
    is_gone,
    pass_the_silence,
    place,
    until,
)
from tests.support.patience import PATIENCE_S
from tests.support.ray_cluster import NodeSetup, RayCluster

from embedmill.engines.ray import Connection, Family
from embedmill.engines.ray.bridge import Bridge
from embedmill.errors import EngineUnavailable, StoreDenied
from embedmill.planned import PlannedRun
from embedmill.types import WorkerState

__all__ = ["planned", "waiting"]
KEEP_S = 20.0


@pytest.mark.parametrize("driver", ["the same", "another"])
def test_a_loop_whose_only_node_left_goes_on_where_one_joins(
    make: Make, waiting: PlannedRun, cluster: RayCluster, driver: str
) -> None:
    alone = NodeSetup(labels={"pool": "alone"})
    family = Family("cpu", memory_mib=512, labels=alone.labels)
    node = cluster.join(alone)
    try:
        engine = make(family)
        engine.start(waiting.url, [place("one")])
        wait_for_loops(waiting, 1)
        until(engine, "one", lambda state: state == WorkerState("one", None), "at work")
        await_begun(engine, "one")
    finally:
        cluster.remove(node)
    await_death(engine, node)
    pass_the_silence(engine, "one")
    assert ended(engine, "one").exit_code == 255
    if driver == "another":
        engine = make(family)
    engine.start(waiting.url, [place("one")])
    deadline_s = time.monotonic() + 18.0  # Ray fails more than five questions in that time
    while time.monotonic() < deadline_s:
        assert engine.states() == [WorkerState("one", None, waits=True)]
        time.sleep(0.2)
    node = cluster.join(alone)
    try:
        until(engine, "one", lambda state: state == WorkerState("one", None), "at work")
        wait_for_loops(waiting, 1)
    finally:
        engine.stop()
        cluster.remove(node)


def test_actors_of_a_start_that_failed_are_ended_with_the_others(
    make: Make, waiting: PlannedRun, connection: Connection
) -> None:
    refused = Family("refused", memory_mib=512, resources={"CPU": 1})  # Ray wants num_cpus
    engine = make(SMALL, refused, start_s=0.0)
    with pytest.raises(EngineUnavailable, match="num_cpus"):
        engine.start(waiting.url, [place("one"), place("two", image="refused")])
    assert not is_gone(connection, engine._name("one"))
    engine.stop()
    await_gone(connection, engine._name("one"))


def test_a_loop_whose_actor_is_slow_to_answer_is_stopped_in_order_all_the_same(
    make: Make, waiting: PlannedRun
) -> None:
    """It hangs for longer than one question waits, and then has as long to stop as any other."""
    engine = make(grace_s=60.0)
    engine.start(waiting.url, [place("one")])
    (loop,) = wait_for_loops(waiting, 1)
    until(engine, "one", lambda state: not state.waits, "at work")
    wait_until_it_works(waiting, "one")
    actor = actor_of(loop)
    actor.suspend()
    threading.Timer(3.0, actor.resume).start()
    engine.stop()
    assert loops_on(waiting) == []
    key = waiting.home.run_key(waiting.plan.run, "events", "one.json")
    assert json.loads(waiting.home.store.get(key))["yields"] == 1, "it was asked to stop, and not killed"


def test_a_loop_for_which_nothing_opens_the_store_is_lost_and_the_next_start_says_why(
    make: Make, waiting: PlannedRun
) -> None:
    asked: list[None] = []

    def secrets() -> dict[str, str]:
        asked.append(None)
        if len(asked) > 1:
            raise StoreDenied("no role can be assumed any more")
        return {}

    engine = make(secrets=secrets)
    engine.start(waiting.url, [place("one")])
    state = ended(engine, "one")
    assert (state.exit_code, state.said) == (255, "no role can be assumed any more")
    with pytest.raises(StoreDenied, match="no role"):
        engine.start(waiting.url, [place("one")])


def test_states_go_on_where_what_speaks_to_ray_could_not_be_started_for_a_while(
    make: Make, waiting: PlannedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make()
    engine.start(waiting.url, [place("one")])
    (loop,) = wait_for_loops(waiting, 1)
    until(engine, "one", lambda state: not state.waits, "at work")
    with monkeypatch.context() as disk:
        disk.setattr(tempfile, "tempdir", "/nowhere")
        speaker = engine._bridge._process
        assert speaker is not None
        speaker.kill()
        speaker.wait(PATIENCE_S)
        with pytest.raises(EngineUnavailable, match=r"cannot be started here: .*/nowhere"):
            engine.nodes()
    loop.kill()
    assert ended(engine, "one").exit_code == -signal.SIGKILL


def test_after_ctrl_c_a_question_is_not_given_the_answer_to_the_one_before(
    make: Make, waiting: PlannedRun, connection: Connection
) -> None:
    engine = make(Family("cpu", memory_mib=512, labels={"pool": "none"}))
    engine.start(waiting.url, [place("one")])
    bridge = Bridge(connection, connect_s=PATIENCE_S)
    try:
        bridge.ask(PATIENCE_S, "nodes")
        before = signal.signal(signal.SIGALRM, signal.default_int_handler)

        def ask_and_interrupt() -> None:
            signal.setitimer(signal.ITIMER_REAL, 0.5)
            bridge.ask(PATIENCE_S, "states", names=[engine._name("one")], wait_s=3.0)

        try:
            with pytest.raises(KeyboardInterrupt):
                ask_and_interrupt()
        finally:
            signal.signal(signal.SIGALRM, before)
        assert bridge.ask(PATIENCE_S, "nodes").keys() == {"nodes"}
    finally:
        bridge.close()


def test_an_actor_whose_metrics_fail_ends_itself_all_the_same(
    make: Make, waiting: PlannedRun, cluster: RayCluster, tmp_path: Path, connection: Connection
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "from pathlib import Path\n"
        "if 'default_worker' in Path('/proc/self/cmdline').read_text():\n"
        "    import sys\n"
        "    sys.modules['ray.util.metrics'] = None\n"
    )
    setup = NodeSetup(labels={"pool": "mute"}, environment={"PYTHONPATH": str(tmp_path)})
    node = cluster.join(setup)
    try:
        engine = make(Family("cpu", memory_mib=512, labels={"pool": "mute"}), keep_s=KEEP_S)
        engine.start(waiting.url, [place("one")])
        (loop,) = wait_for_loops(waiting, 1)
        actor = actor_of(loop)
        loop.kill()
        assert ended(engine, "one").exit_code == -signal.SIGKILL
        actor.wait(PATIENCE_S)
        await_gone(connection, engine._name("one"))
    finally:
        cluster.remove(node)
