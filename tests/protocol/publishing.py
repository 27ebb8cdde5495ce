"""Publishes a run: checks its files, seals it, closes it, and creates the log entry, which is the commit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from tests.protocol.agents import Step, delete_one_of, files_of, history_of, number_for
from tests.protocol.store import Store
from tests.protocol.world import (
    Entry,
    Named,
    Plan,
    Run,
    Scenario,
    Terminal,
    content_key,
    log_key,
    manifest_key,
    plan_key,
    terminal_key,
    verdicts_key,
)


class Publisher(NamedTuple):
    """Publishes one run: `publish` of src/embedmill/release/publish.py."""

    name: str
    run: Run
    at: Literal[
        "starting",
        "checking",
        "judging",
        "sealing",
        "closing",
        "committing",
        "giving up",
        "cleaning up",
        "published",
        "lost",
    ] = "starting"
    number: int = 0
    saw_no_manifest: bool = False

    def moves(self, store: Store, scenario: Scenario) -> Iterator[Step]:
        step = PUBLISHER_STEPS.get(self.at)
        if step is not None:
            yield from step(self, store, scenario)
            if self.at != "starting":
                restarted = Publisher(self.name, self.run)
                yield Step(f"{self.name} crashes, another process takes over", restarted, store)

    def _start(self, store: Store, scenario: Scenario) -> Iterator[Step]:
        """Read the log; go on only if the run's base is live and there is no hold."""
        plan, rules = store.get(plan_key(self.run)), scenario.rules
        if store.get(content_key(self.run)) is None or not isinstance(plan, Plan):
            return
        history = history_of(store)
        if Entry("publish", self.run) in history.entries:
            yield self._on("published", store, "finds its entry in the log")
        elif history.live != plan.base and rules.publishing_minds_its_base:
            yield self._on("giving up", store, f"finds {history.live} live, but its base is {plan.base}")
        elif not (history.hold and rules.publishing_minds_a_hold):
            on = self._replace(at="checking", number=history.next_number)
            yield Step(f"{self.name} reads the log up to entry {history.next_number - 1}", on, store)

    def _check(self, store: Store, scenario: Scenario) -> Iterator[Step]:
        """`seal`: every file that CONTENT names is there, with its bytes; else the run is closed.

        All in one step: nothing rests on this check, which is for damage; see the note on decisions.
        """
        content = store.get(content_key(self.run))
        if not isinstance(content, Named):
            return
        missing = [key for key, value in content.files if store.get(key) != value]
        if missing and scenario.rules.files_are_checked:
            yield self._on("giving up", store, f"misses {missing[0]}")
        else:
            on = self._replace(at=self._after_check(scenario))
            yield Step(f"{self.name} has checked the files of {self.run}", on, store)

    def _after_check(self, scenario: Scenario) -> Literal["judging", "sealing", "closing"]:
        if scenario.sealed:
            return "closing"
        return "judging" if scenario.verdicts else "sealing"

    def _judge(self, store: Store, scenario: Scenario) -> Iterator[Step]:
        """Write the verdicts of this process.

        The rule: they become part of the release by a create-if-absent, so that those that are sealed are
        those that are there. Broken: they are replaced unless a manifest is seen, and then written.
        """
        key, mine = verdicts_key(self.run), f"verdicts of {self.name}"
        if scenario.rules.verdicts_are_created_once:
            for created in store.create(key, mine):
                on = self if created.answer == "unknown" else self._replace(at="sealing")
                yield Step(f"{self.name} creates {key}: {created.how}", on, created.store)
        elif not self.saw_no_manifest:
            sealed = store.get(manifest_key(self.run)) is not None
            on = self._replace(at="sealing") if sealed else self._replace(saw_no_manifest=True)
            yield Step(f"{self.name} finds {'a' if sealed else 'no'} MANIFEST", on, store)
        else:
            on = self._replace(at="sealing", saw_no_manifest=False)
            yield Step(f"{self.name} writes {key}", on, store.put(key, mine))

    def _seal(self, store: Store, scenario: Scenario) -> Iterator[Step]:
        """Create MANIFEST if absent: every file that CONTENT names, and the verdicts that are there."""
        content, verdicts = store.get(content_key(self.run)), store.get(verdicts_key(self.run))
        if not isinstance(content, Named):
            return
        said = ((verdicts_key(self.run), verdicts),) if isinstance(verdicts, str) else ()
        for created in store.create(manifest_key(self.run), Named((*content.files, *said))):
            on = self if created.answer == "unknown" else self._replace(at="closing")
            yield Step(f"{self.name} creates MANIFEST of {self.run}: {created.how}", on, created.store)

    def _close(self, store: Store, scenario: Scenario) -> Iterator[Step]:
        """The terminal, created once, decides between publishing and abandoning."""
        if not scenario.rules.terminal_is_won_before_publishing:
            yield self._on("committing", store, "leaves the terminal alone")
            return
        mine = Terminal(self.number)
        for created in store.create(terminal_key(self.run), mine):
            text = f"{self.name} closes {self.run} as {mine}: {created.how}"
            if created.answer == "unknown":
                yield Step(text, self, created.store)
            elif created.there == mine or not self._number_is_fixed(scenario):
                yield Step(text, self._replace(at="committing"), created.store)
            else:
                yield Step(f"{text} by {created.there}", self._replace(at="lost"), created.store)

    def _number_is_fixed(self, scenario: Scenario) -> bool:
        return "publish" in scenario.rules.number_is_that_of_the_decision

    def _commit(self, store: Store, scenario: Scenario) -> Iterator[Step]:
        """Create the entry of the log. This is the commit."""
        number = number_for("publish", self.number, store, scenario)
        if number > scenario.entries:
            return
        mine, rules = Entry("publish", self.run), scenario.rules
        if not self._number_is_fixed(scenario) and mine in history_of(store).entries:
            yield self._on("published", store, "finds its entry in the log")
            return
        for created in store.create(log_key(number), mine):
            text = f"{self.name} creates log/{number} = {mine}: {created.how}"
            if created.answer == "unknown":
                next_number = number if rules.unknown_keeps_its_number else number + 1
                yield Step(text, self._replace(number=next_number), created.store)
            elif created.answer == "taken" and not rules.taken_is_looked_into:
                yield Step(text, self._replace(at="cleaning up"), created.store)
            elif created.there == mine:
                yield Step(text, self._replace(at="published", number=0), created.store)
            else:
                yield Step(f"{text} by {created.there}", self._replace(at="lost", number=0), created.store)

    def _give_up(self, store: Store, scenario: Scenario) -> Iterator[Step]:
        """Close the run, however it was closed before, and report the loss."""
        for created in store.create(terminal_key(self.run), Terminal(None, "outdated")):
            on = self if created.answer == "unknown" else Publisher(self.name, self.run, "lost")
            yield Step(f"{self.name} abandons {self.run}: {created.how}", on, created.store)

    def _clean_up(self, store: Store, scenario: Scenario) -> Iterator[Step]:
        """Only in a broken variant: whoever takes "taken" for "lost" deletes what it has."""
        yield from delete_one_of(self.name, self, store, files_of(store.objects, self.run), scenario)

    def _on(self, at: Literal["giving up", "committing", "published"], store: Store, text: str) -> Step:
        return Step(f"{self.name} {text}", self._replace(at=at), store)


PUBLISHER_STEPS = {
    "starting": Publisher._start,
    "checking": Publisher._check,
    "judging": Publisher._judge,
    "sealing": Publisher._seal,
    "closing": Publisher._close,
    "committing": Publisher._commit,
    "giving up": Publisher._give_up,
    "cleaning up": Publisher._clean_up,
}
