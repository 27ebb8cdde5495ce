"""The real planner, workers, publisher and collector, under faults, in thousands of seeded histories."""

from __future__ import annotations

import time

import pytest
from tests.simulation.history import Simulation, Stage


@pytest.mark.soak(quick=12, large=2000)
def test_whatever_happens_nothing_is_lost_and_no_person_is_needed(stage: Stage, seed: int) -> None:
    Simulation(stage, seed).run()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_seed_replays_the_same_trace(stage: Stage, seed: int) -> None:
    first, again = Simulation(stage, seed), Simulation(stage, seed)
    trace = first.run()
    time.sleep(1.1)  # documents tell the time in seconds, and it must be the simulation's own
    assert again.run() == trace
    assert contents(again) == contents(first)


def contents(simulation: Simulation) -> dict[str, bytes]:
    """Of all objects that its store has in the end."""
    store = simulation.store
    return {info.key: store.get(info.key) for info in store.list("")}
