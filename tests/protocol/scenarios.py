"""Where explorations start: which agents there are, and what the store has."""

from __future__ import annotations

from tests.protocol.explore import World
from tests.protocol.admin import Collector, Operator
from tests.protocol.agents import Agent
from tests.protocol.publishing import Publisher
from tests.protocol.store import Key, Objects, Store, Value
from tests.protocol.world import (
    BYTES,
    Entry,
    Named,
    Plan,
    Run,
    Scenario,
    content_key,
    log_key,
    manifest_key,
    plan_key,
)
from tests.protocol.working import Assembler, Salvager, Worker

EARLIER = ("A", "B")
"""Releases that were published before; B is live."""


def start(scenario: Scenario, objects: dict[Key, Value], *agents: Agent) -> World:
    """A state in which nothing has happened yet."""
    store = Store(Objects.of(objects), frozenset(), scenario.late, scenario.late_deletes)
    return World(store, agents)


def history() -> dict[Key, Value]:
    """Two releases of one file each, the second one live."""
    objects: dict[Key, Value] = {}
    for number, release in enumerate(EARLIER, start=1):
        objects |= _candidate(release)
        objects[manifest_key(release)] = objects[content_key(release)]
        objects[log_key(number)] = Entry("publish", release)
    return objects


def _candidate(run: Run) -> dict[Key, Value]:
    file = f"releases/{run}/items"
    return {file: BYTES, content_key(run): Named(((file, BYTES),))}


def candidates(*runs: Run) -> dict[Key, Value]:
    """Runs that are planned on B, worked and assembled."""
    objects: dict[Key, Value] = {}
    for run in runs:
        objects |= _candidate(run) | {plan_key(run): Plan("B")}
        objects[manifest_key(run)] = objects[content_key(run)]
    return objects


ROLLBACK = Scenario(
    "two publishers, a rollback and a collector", runs=("R1", "R2"), retires=True, sealed=True
)


def rollback(scenario: Scenario) -> World:
    """Two runs on one base, an operator, and a collector that abandons, retires and deletes."""
    objects = history() | candidates("R1", "R2")
    agents = (Publisher("P1", "R1"), Publisher("P2", "R2"), Operator("operator"), Collector("collector"))
    return start(scenario, objects, *agents)


SHARDS = ("s1", "s2")


def planned(run: Run, shards: tuple[str, ...] = SHARDS) -> dict[Key, Value]:
    """A run of which nothing is computed yet."""
    return {plan_key(run): Plan("B", shards, (None,) * len(shards))}


COMMITS = Scenario(
    "two workers, two assemblers, two publishers and a collector",
    runs=("R",),
    entries=3,
    late=1,
    deletes_documents=True,
)


def commits(scenario: Scenario) -> World:
    """One run of two shards, worked, assembled and published by two of each, while it may be abandoned."""
    agents = (
        Worker("W", ("R",), tries=2),
        Worker("V", ("R",), tries=2),
        Assembler("X", "R"),
        Assembler("Y", "R"),
        Publisher("P", "R"),
        Publisher("Q", "R"),
        Collector("collector"),
    )
    return start(scenario, history() | planned("R"), *agents)


SALVAGE = COMMITS._replace(name="a run that salvages another's vectors", runs=("R", "S"))


def salvage(scenario: Scenario) -> World:
    """A run of one or two shards; another that salvages it; either may be abandoned at any time."""
    agents = (
        Worker("W", ("R", "S"), tries=2),
        Salvager("planner", "S", "R", SHARDS[:1]),
        Assembler("X", "R"),
        Assembler("Y", "S"),
        Publisher("P", "R"),
        Publisher("Q", "S"),
        Collector("collector"),
    )
    return start(scenario, history() | planned("R", SHARDS[:1]), *agents)
