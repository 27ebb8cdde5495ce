"""Explores every interleaving of a scenario's agents, breadth first; or walks where there are too many."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.protocol.agents import Agent
from tests.protocol.promises import broken_by_change, broken_by_report, broken_in
from tests.protocol.store import Objects, Store
from tests.protocol.world import Scenario, read_history


class World(NamedTuple):
    """One state: the store, and every agent's place and memory. Agents meet in the store alone."""

    store: Store
    agents: tuple[Agent, ...]


MEDDLERS = ("operator", "collector")

Sight = Callable[[Objects], bool]
"""Something that should be seen, lest a promise holds because nothing ever happens."""


@dataclass
class Exploration:
    """What was found: `trace` is empty if no promise is broken."""

    scenario: Scenario
    states: int = 0
    transitions: int = 0
    depth: int = 0
    broken: str = ""
    trace: list[str] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    complete: bool = False
    published: int = 0
    """Entries that a walk added to the log."""

    def __str__(self) -> str:
        said = f"{self.scenario.name}: {self.states:,} states, {self.transitions:,} transitions"
        if not self.broken:
            how = f"depth {self.depth}" if self.depth else f"{self.published} releases published"
            return f"{said}, {how}, no promise broken"
        steps = "\n".join(f"  {number:2}. {step}" for number, step in enumerate(self.trace, start=1))
        return f"{said}; after {len(self.trace)} steps {self.broken}\n{steps}"


def moves(world: World, scenario: Scenario) -> Iterator[tuple[str, World]]:
    """Everything that can happen next: any agent takes a step, or a late request arrives."""
    store, agents = world
    for place, agent in enumerate(agents):
        for step in agent.moves(store, scenario):
            text, now, after = step
            yield text, World(after, (*agents[:place], now, *agents[place + 1 :]))
    for text, after in store.arrivals():
        yield text, World(after, agents)


def explore(
    scenario: Scenario, start: World, *, sights: dict[str, Sight] | None = None, limit: int = 5_000_000
) -> Exploration:
    """Visit every state that can be reached, or stop at the first broken promise: its trace is a shortest."""
    found = Exploration(scenario)
    came_from: dict[World, World | None] = {start: None}
    changes: set[tuple[Objects, Objects]] = set()
    looked_at: set[Objects] = set()
    frontier = [start]
    while frontier and len(came_from) < limit:
        following: list[World] = []
        for world in frontier:
            for text, after in moves(world, scenario):
                found.transitions += 1
                change = (world.store.objects, after.store.objects)
                if change[0] is not change[1] and change not in changes:
                    changes.add(change)
                    found.broken = broken_by_change(*change)
                if after not in came_from:
                    came_from[after] = world
                    following.append(after)
                    found.broken = found.broken or broken(after, scenario)
                if found.broken:
                    found.states = len(came_from)
                    found.trace = [*_trace(world, came_from, scenario), text]
                    return found
        _look(sights or {}, following, looked_at, found)
        found.depth += bool(following)
        frontier = following
    found.states, found.complete = len(came_from), not frontier
    return found


def broken(world: World, scenario: Scenario) -> str:
    """The promise that a state breaks, or nothing."""
    objects = world.store.objects
    return broken_in(objects, scenario) or broken_by_report(world.agents, objects)


def _look(
    sights: dict[str, Sight], worlds: Collection[World], looked_at: set[Objects], found: Exploration
) -> None:
    """Note what is seen in the store's contents, each looked at once."""
    new = {world.store.objects for world in worlds} - looked_at
    looked_at |= new
    for name in sights.keys() - found.seen:
        if any(sights[name](objects) for objects in new):
            found.seen.add(name)


def _trace(world: World, came_from: dict[World, World | None], scenario: Scenario) -> list[str]:
    """The steps that led to a state."""
    steps: list[str] = []
    while (before := came_from[world]) is not None:
        steps.append(next(text for text, after in moves(before, scenario) if after == world))
        world = before
    return steps[::-1]


def walk(scenario: Scenario, start: World, seed: int, *, steps: int) -> Exploration:
    """One random walk; how often operator and collector meddle is drawn for each, lest all runs end early."""
    draw, world, found = random.Random(seed), start, Exploration(scenario)
    meddling = draw.choice((0.003, 0.03, 0.3))
    for _ in range(steps):
        everything = list(moves(world, scenario))
        work = [move for move in everything if not move[0].startswith(MEDDLERS)]
        possible = everything if draw.random() < meddling or not work else work
        if not possible:
            break
        text, after = draw.choice(possible)
        found.trace.append(text)
        found.states += 1
        found.transitions += len(everything)
        found.broken = broken_by_change(world.store.objects, after.store.objects) or broken(after, scenario)
        if found.broken:
            return found
        world = after
    found.trace.clear()
    entries = [w.store.objects.derive(read_history).entries for w in (start, world)]
    found.published = sum(entry.kind == "publish" for entry in entries[1][len(entries[0]) :])
    return found
