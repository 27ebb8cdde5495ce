"""An operator, who rolls back and pins; and the collector, which abandons, retires and deletes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tests.protocol.agents import Agent, Step, deletable, delete_one_of, history_of, number_for
from tests.protocol.store import Store
from tests.protocol.world import Entry, History, Run, Scenario, Terminal, log_key, terminal_key


class Operator(NamedTuple):
    """Rolls back, lifts holds, pins and unpins: src/embedmill/release/admin.py."""

    name: str
    decided: Entry | None = None
    number: int = 0

    def moves(self, store: Store, scenario: Scenario) -> Iterator[Step]:
        if self.decided is not None:
            idle = Operator(self.name)
            yield from append(self.name, self, idle, self.number, self.decided, store, scenario)
            yield Step(f"{self.name} is interrupted", idle, store)
            return
        history = history_of(store)
        for intent in self._wishes(history, scenario):
            on = Operator(self.name, intent, history.next_number)
            yield from decide(self.name, self, on, history.next_number, intent, store, scenario)

    def _wishes(self, history: History, scenario: Scenario) -> Iterator[Entry]:
        """A rollback refuses what is live or retired.

        The code also looks whether all files are there; the protocol must hold without.
        """
        known = history.published
        if not scenario.rules.rollback_refuses_retired:
            known = tuple(entry.release for entry in history.entries if entry.kind == "publish")
        for release in known:
            if "rollback" in scenario.intentions and release != history.live:
                yield Entry("rollback", release)
            if "pin" in scenario.intentions and release not in history.pinned:
                yield Entry("pin", release)
            if "unpin" in scenario.intentions and release in history.pinned:
                yield Entry("unpin", release)
        if "unhold" in scenario.intentions and history.hold:
            yield Entry("unhold", history.live)


def append(
    name: str, waiting: Agent, done: Agent, number: int, intent: Entry, store: Store, scenario: Scenario
) -> Iterator[Step]:
    """`append` of src/embedmill/release/log.py: an entry under the number of its decision, or none."""
    number = number_for(intent.kind, number, store, scenario)
    if number > scenario.entries:
        return
    for created in store.create(log_key(number), intent):
        on = waiting if created.answer == "unknown" else done
        yield Step(f"{name} creates log/{number} = {intent}: {created.how}", on, created.store)


def decide(
    name: str, idle: Agent, decided: Agent, number: int, intent: Entry, store: Store, scenario: Scenario
) -> Iterator[Step]:
    """Read the log and want this entry; where `at_once` is set, create it in the same step.

    That loses nothing where the number is that of the decision: if it is still free later on, the log is
    still what the decision was made on, so that whoever appends later might as well have decided later.
    """
    if number > scenario.entries:
        return
    if scenario.at_once and intent.kind in scenario.rules.number_is_that_of_the_decision:
        after = store.put(log_key(number), intent)
        yield Step(f"{name} creates log/{number} = {intent}", idle, after)
    else:
        yield Step(f"{name} reads the log up to entry {number - 1} and decides: {intent}", decided, store)


class Collector(NamedTuple):
    """Closes runs, retires releases, and deletes their files; when it tries what is anybody's guess.

    Clocks decide when it tries, never what is safe (docs/decisions/0006). It need not remember what it may
    delete: that a run or a release is dead stays true.
    """

    name: str
    retires: Run = ""
    number: int = 0
    deletes: Run = ""
    """Only in broken variants: what it deletes without a word in the store."""

    def moves(self, store: Store, scenario: Scenario) -> Iterator[Step]:
        idle = Collector(self.name)
        if self.retires:
            entry = Entry("retire", self.retires)
            yield from append(self.name, self, idle, self.number, entry, store, scenario)
            yield Step(f"{self.name} lets go of {self.retires}", idle, store)
        elif self.deletes:
            keys = deletable(store.objects, self.deletes, scenario)
            yield from delete_one_of(self.name, self, store, keys, scenario)
            yield Step(f"{self.name} lets go of {self.deletes}", idle, store)
        else:
            for run in scenario.runs:
                yield from self._close(run, store, scenario)
                yield from self._tidy(run, store, scenario)
            yield from self._retire(store, scenario)
            yield from self._forget_log(store, scenario)

    def _close(self, run: Run, store: Store, scenario: Scenario) -> Iterator[Step]:
        """Any run of which the log knows nothing may seem old: win terminal=abandon before deleting."""
        if Entry("publish", run) in history_of(store).entries:
            return
        if not scenario.rules.abandon_is_won_before_deleting:
            yield Step(f"{self.name} finds {run} old", Collector(self.name, deletes=run), store)
        elif store.get(terminal_key(run)) is None:
            for created in store.create(terminal_key(run), Terminal(None, "old")):
                yield Step(f"{self.name} abandons {run}: {created.how}", self, created.store)
        elif is_dead(store, run):
            yield from delete_one_of(
                self.name, self, store, deletable(store.objects, run, scenario), scenario
            )

    def _retire(self, store: Store, scenario: Scenario) -> Iterator[Step]:
        """A release is deleted only after its `retire` entry is in the log (docs/decisions/0006)."""
        if not scenario.retires:
            return
        history, rules = history_of(store), scenario.rules
        for release in self._retirable(history, scenario):
            on = Collector(self.name, retires=release, number=history.next_number)
            if rules.retire_is_logged_before_deleting:
                intent = Entry("retire", release)
                yield from decide(self.name, self, on, history.next_number, intent, store, scenario)
            else:
                for key in deletable(store.objects, release, scenario):
                    for after in store.delete(key):
                        yield Step(f"{self.name} deletes {key}, to retire {release} then", on, after)
        for release in sorted(history.retired):
            yield from delete_one_of(
                self.name, self, store, deletable(store.objects, release, scenario), scenario
            )

    def _retirable(self, history: History, scenario: Scenario) -> list[Run]:
        """Neither live, nor pinned, nor one of the last K."""
        rules = scenario.rules
        seen = history if rules.retire_spares_pinned else history._replace(pinned=frozenset())
        seen = seen if rules.retire_spares_live else seen._replace(live="")
        return seen.retirable(scenario.retained)

    def _tidy(self, run: Run, store: Store, scenario: Scenario) -> Iterator[Step]:
        """Only in a broken variant: delete commit records of a published run, which has no use for them."""
        published = Entry("publish", run) in history_of(store).entries
        if published and not scenario.rules.commits_of_releases_are_kept:
            yield from delete_one_of(
                self.name, self, store, store.objects.list(f"runs/{run}/commits/"), scenario
            )

    def _forget_log(self, store: Store, scenario: Scenario) -> Iterator[Step]:
        """Only in a broken variant: delete an entry that is not the newest."""
        if not scenario.rules.log_entries_are_kept:
            for number in range(1, len(history_of(store).entries)):
                for after in store.delete(log_key(number)):
                    yield Step(f"{self.name} deletes log/{number}", self, after)


def is_dead(store: Store, run: Run) -> bool:
    """Whether a closed run can never be published: it was abandoned, or its number is another's."""
    terminal = store.get(terminal_key(run))
    if not isinstance(terminal, Terminal):
        return False
    if terminal.number is None:
        return True
    entry = store.get(log_key(terminal.number))
    return entry is not None and entry != Entry("publish", run)
