"""What tests of the engine for Ray ask of its loops and actors."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import psutil
from tests.support.patience import PATIENCE_S
from tests.support.ray_cluster import RayNode

from embedmill.engines import Engine, RayEngine
from embedmill.engines.ray import Connection, Family
from embedmill.engines.ray.bridge import Bridge
from embedmill.types import Placement, WorkerState

SMALL = Family("cpu", memory_mib=512)
Make = Callable[..., RayEngine]


def place(worker: str, **changed: Any) -> Placement:
    return Placement(worker, **{"image": "cpu", **changed})


def until(engine: Engine, worker: str, holds: Callable[[WorkerState], bool], what: str) -> WorkerState:
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        found = {state.worker: state for state in engine.states()}
        if worker in found and holds(found[worker]):
            return found[worker]
        assert time.monotonic() < deadline_s, f"{worker} is not {what}: {found.get(worker)}"
        time.sleep(0.05)


def ended(engine: Engine, worker: str) -> WorkerState:
    return until(engine, worker, lambda state: state.exit_code is not None, "ended")


def await_begun(engine: RayEngine, worker: str) -> None:
    """Until the engine has heard that its order was taken: it may be at work before."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not engine._loops[worker].begun:
        assert time.monotonic() < deadline_s, f"nobody said that {worker} has its order"
        time.sleep(0.05)


def pass_the_silence(engine: RayEngine, worker: str) -> None:
    """Let the time pass for which a loop may say nothing: it is on a node that is gone."""
    with engine._lock:  # no answer of before is on its way
        engine._loops[worker].heard_s = -math.inf


def await_death(engine: RayEngine, node: RayNode) -> None:
    """Until the cluster knows that a node is gone."""
    deadline_s = time.monotonic() + PATIENCE_S
    while any(each.alive and each.address == node.address for each in engine.nodes()):
        assert time.monotonic() < deadline_s, f"{node.address} still counts as alive"
        time.sleep(0.2)


def is_gone(connection: Connection, name: str) -> bool:
    """Whether there is no such actor, nor is one to be started."""
    bridge = Bridge(connection, connect_s=PATIENCE_S)
    try:
        said = bridge.ask(PATIENCE_S, "states", names=[name], wait_s=2.0)["states"]
        return set(said[name]) == {"gone"}
    finally:
        bridge.close()


def await_gone(connection: Connection, name: str) -> None:
    """Until nobody has this name any more: Ray ends actors some time after it was asked to."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not is_gone(connection, name):
        assert time.monotonic() < deadline_s, f"{name} is there"


def actor_of(loop: psutil.Process) -> psutil.Process:
    """The process of the actor that keeps a loop."""
    found = loop.parent()
    assert found is not None
    return found
