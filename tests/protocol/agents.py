"""What agents are made of: places, steps, and what several of them do alike.

Every agent is its place in its program and what it remembers there; each step does one thing to the store.
An agent that crashes for good is one that never takes its next step; another process that takes over knows
only what is in the store.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from tests.protocol.store import Key, Objects, Store
from tests.protocol.world import BYTES, History, Kind, Run, Scenario, read_history


class Agent(Protocol):
    """A process, or several that follow one another."""

    @property
    def name(self) -> str: ...

    def moves(self, store: Store, scenario: Scenario) -> Iterator[Step]:
        """Everything that may happen when this agent is next."""
        ...


class Step(NamedTuple):
    """What happened, and what the agent and the store are afterwards."""

    text: str
    agent: Agent
    store: Store


def history_of(store: Store) -> History:
    return store.objects.derive(read_history)


def number_for(kind: Kind, decided: int, store: Store, scenario: Scenario) -> int:
    """The number of an entry is the one after the history that its decision was made on.

    Whoever appends a step later than it decided must not slip behind what came in between.
    """
    fixed = kind in scenario.rules.number_is_that_of_the_decision
    return decided if fixed else history_of(store).next_number


def files_of(objects: Objects, run: Run) -> list[Key]:
    """Files of a run's release, without its documents."""
    return [key for key in objects.list(f"releases/{run}/") if objects.get(key) == BYTES]


def deletable(objects: Objects, run: Run, scenario: Scenario) -> list[Key]:
    """All that is deleted of a run that can never be published: everything but its terminal.

    Where `deletes_documents` is not set, only files.
    """
    if not scenario.deletes_documents:
        return files_of(objects, run)
    commits = objects.list(f"runs/{run}/commits/")
    return [*objects.list(f"releases/{run}/"), *commits]


def delete_one_of(
    name: str, agent: Agent, store: Store, keys: list[Key], scenario: Scenario
) -> Iterator[Step]:
    """One of these goes: the first one listed, or any."""
    for key in keys if scenario.any_order else keys[:1]:
        for after in store.delete(key):
            yield Step(f"{name} deletes {key}", agent, after)
