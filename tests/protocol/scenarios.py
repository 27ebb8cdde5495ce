"""Where explorations start: which agents there are, and what the store has."""

from __future__ import annotations

from tests.protocol.admin import Collector, Operator
from tests.protocol.agents import Agent
from tests.protocol.explore import World
from tests.protocol.publishing import Publisher
from tests.protocol.store import Key, Objects, Store, Value
from tests.protocol.working import Assembler, Salvager, Worker
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
    agents = (Publisher("P1", "R1"), Publisher("P2", "R2"), Operator("operator"), Collector("collector"))
    return start(scenario, history() | candidates("R1", "R2"), *agents)


VERDICTS = Scenario("two processes that check and publish one run", runs=("R",), verdicts=True, entries=3)


def verdicts(scenario: Scenario) -> World:
    """One candidate, found by two processes at once; it may be abandoned."""
    agents = (Publisher("P", "R"), Publisher("Q", "R"), Collector("collector"))
    objects = {key: value for key, value in candidates("R").items() if key != manifest_key("R")}
    return start(scenario, history() | objects, *agents)


SHARDS = ("s1", "s2")


def planned(run: Run, shards: tuple[str, ...] = SHARDS) -> dict[Key, Value]:
    """A run of which nothing is computed yet."""
    return {plan_key(run): Plan("B", shards, (None,) * len(shards))}


COMMITS = Scenario(
    "two workers on two shards, an assembler, two publishers and a collector", runs=("R",), entries=3
)


def commits(
    scenario: Scenario, *, shards: int = 2, tries: int = 1, assemblers: str = "X", publishers: str = "PQ"
) -> World:
    """One run, worked, assembled and published by several at once, while it may be abandoned.

    Worker W has so many tries, V has one.
    """
    agents: tuple[Agent, ...] = (
        Worker("W", ("R",), tries),
        Worker("V", ("R",), 1),
        *(Assembler(name, "R") for name in assemblers),
        *(Publisher(name, "R") for name in publishers),
        Collector("collector"),
    )
    return start(scenario, history() | planned("R", SHARDS[:shards]), *agents)


ASSEMBLERS = COMMITS._replace(
    name="two workers on two shards, two assemblers, two publishers and a collector"
)


SALVAGE = Scenario("a run that salvages another's vectors, and a collector", runs=("R", "S"), entries=3)


def salvage(scenario: Scenario, *, rivals: bool = True) -> World:
    """A run of one shard, and one that salvages it; either may be abandoned at any time.

    With rivals, the first is assembled and published, too.
    """
    agents: tuple[Agent, ...] = (
        Worker("W", ("R",), 1),
        Worker("V", ("S",), 1),
        Salvager("planner", "S", "R", SHARDS[:1]),
        Assembler("Y", "S"),
        Publisher("Q", "S"),
        *((Assembler("X", "R"), Publisher("P", "R")) if rivals else ()),
        Collector("collector"),
    )
    return start(scenario, history() | planned("R", SHARDS[:1]), *agents)


JOINT = Scenario(
    "all of it at once",
    runs=("R", "S"),
    retires=True,
    entries=8,
    late=3,
    late_deletes=True,
    deletes_documents=True,
    any_order=True,
    verdicts=True,
    carries=True,
)


def joint(scenario: Scenario) -> World:
    """Everybody, in twos."""
    agents: tuple[Agent, ...] = (
        Worker("W", ("R", "S"), 3),
        Worker("V", ("R", "S"), 3),
        Salvager("planner", "S", "R", SHARDS),
        *(Assembler(f"{name}{run}", run) for run in ("R", "S") for name in "XY"),
        *(Publisher(f"{name}{run}", run) for run in ("R", "S") for name in "PQ"),
        Operator("operator"),
        Collector("collector"),
    )
    return start(scenario, history() | planned("R"), *agents)
