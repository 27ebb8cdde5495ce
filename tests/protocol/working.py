"""Who fills a release's folder: workers, assemblers, and the planner of a run that salvages vectors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from tests.protocol.agents import Step, delete_one_of
from tests.protocol.store import Key, Objects, Store
from tests.protocol.world import (
    BYTES,
    Named,
    Plan,
    Run,
    Scenario,
    Terminal,
    commit_key,
    content_key,
    plan_key,
    terminal_key,
    vectors_key,
)


class Worker(NamedTuple):
    """A worker loop: `work` of src/embedmill/work/worker.py.

    Leases are left out: any worker may take any shard that it sees uncommitted, whoever else works on it. So
    whatever becomes of a lease is explored, too: that it is taken over too early, or deleted by its former
    holder, whose delete came too late, when it is another's.
    """

    name: str
    runs: tuple[Run, ...]
    tries: int
    """So many attempts are left."""
    at: Literal["idle", "writing", "committing", "discarding"] = "idle"
    run: Run = ""
    shard: str = ""

    @property
    def attempt(self) -> str:
        """A name that no other attempt has."""
        return f"{self.name}{self.tries}"

    def moves(self, store: Store, scenario: Scenario) -> Iterator[Step]:
        if self.at == "idle":
            yield from self._claim(store)
            return
        if self.at == "writing":
            yield from self._write(store)
        elif self.at == "committing":
            yield from self._commit(store, scenario)
        else:
            yield from self._discard(store, scenario)
        yield Step(f"{self.name} crashes, another process takes over", self._idle(), store)

    def _idle(self) -> Worker:
        return Worker(self.name, self.runs, self.tries)

    def _claim(self, store: Store) -> Iterator[Step]:
        """A lease only saves work, so that it forbids nothing here."""
        for run in self.runs:
            plan = store.get(plan_key(run))
            if self.tries and isinstance(plan, Plan):
                for shard in plan.to_compute():
                    if store.get(commit_key(run, shard)) is None:
                        on = Worker(self.name, self.runs, self.tries - 1, "writing", run, shard)
                        yield Step(f"{self.name} starts attempt {on.attempt} at {run}/{shard}", on, store)

    def _write(self, store: Store) -> Iterator[Step]:
        """Under a key that is the attempt's own; sent again until it is answered."""
        key = vectors_key(self.run, self.shard, self.attempt)
        for created in store.create(key, BYTES):
            on = self if created.answer == "unknown" else self._replace(at="committing")
            yield Step(f"{self.name} writes {key}: {created.how}", on, created.store)

    def _commit(self, store: Store, scenario: Scenario) -> Iterator[Step]:
        """The record is created if absent, and is the arbiter."""
        key = commit_key(self.run, self.shard)
        if not scenario.rules.commits_are_created_once:
            yield Step(
                f"{self.name} writes {key} = {self.attempt}", self._idle(), store.put(key, self.attempt)
            )
            return
        for created in store.create(key, self.attempt):
            text = f"{self.name} creates {key} = {self.attempt}: {created.how}"
            if created.answer == "unknown":
                yield Step(text, self, created.store)
            elif created.there == self.attempt:
                yield Step(text, self._idle(), created.store)
            else:
                yield Step(f"{text} by {created.there}", self._replace(at="discarding"), created.store)

    def _discard(self, store: Store, scenario: Scenario) -> Iterator[Step]:
        """The record is final, so that the loser's file can never be named: it deletes that, nothing else."""
        attempt = self.attempt
        if not scenario.rules.losers_delete_only_their_own:
            attempt = str(store.get(commit_key(self.run, self.shard)))
        key = vectors_key(self.run, self.shard, attempt)
        yield from delete_one_of(self.name, self._idle(), store, [key], scenario)


class Assembler(NamedTuple):
    """Makes CONTENT of commit records, once: `assemble` of src/embedmill/release/assemble.py.

    One that crashes is not started again under the same name: another assembler takes over.
    """

    name: str
    run: Run
    at: Literal[
        "starting", "gathering", "carrying", "writing", "creating", "sweeping", "giving up", "done"
    ] = "starting"

    def moves(self, store: Store, scenario: Scenario) -> Iterator[Step]:
        step = ASSEMBLER_STEPS.get(self.at)
        if step is not None:
            yield from step(self, store, scenario)

    def _start(self, store: Store, scenario: Scenario) -> Iterator[Step]:
        """Nothing to do if CONTENT is there; nothing can be done while a commit record is missing."""
        if committed_vectors(store.objects, self.run) and store.get(content_key(self.run)) is None:
            on = self._replace(at="gathering")
            yield Step(f"{self.name} finds {self.run} committed, and no CONTENT", on, store)

    def _gather(self, store: Store, scenario: Scenario) -> Iterator[Step]:
        """Every committed file must be there; a missing one closes the run."""
        vectors = committed_vectors(store.objects, self.run) or []
        missing = next((key for key in vectors if store.get(key) is None), None)
        if missing is None:
            on = self._replace(at="carrying" if scenario.carries else "writing")
            yield Step(f"{self.name} finds the vectors of {self.run}", on, store)
        else:
            on = self._replace(at="giving up")
            yield Step(f"{self.name} misses {missing}", on, store)

    def _carry(self, store: Store, scenario: Scenario) -> Iterator[Step]:
        """Old segments are copied from the base; one that is gone meanwhile cannot be the live release."""
        plan = store.get(plan_key(self.run))
        if isinstance(plan, Plan) and store.get(f"releases/{plan.base}/items") is not None:
            for created in store.create(carried_key(self.run), BYTES):
                on = self if created.answer == "unknown" else self._replace(at="writing")
                yield Step(f"{self.name} copies {plan.base}'s vectors: {created.how}", on, created.store)

    def _write(self, store: Store, scenario: Scenario) -> Iterator[Step]:
        """Items, and compacted vectors, under names that no other assembler has."""
        for created in store.create(own_key(self.run, self.name), BYTES):
            on = self if created.answer == "unknown" else self._replace(at=self._after_writing(scenario))
            yield Step(f"{self.name} writes {own_key(self.run, self.name)}: {created.how}", on, created.store)

    def _after_writing(self, scenario: Scenario) -> Literal["creating", "sweeping"]:
        return "creating" if scenario.rules.sweep_follows_content else "sweeping"

    def _create(self, store: Store, scenario: Scenario) -> Iterator[Step]:
        """ARCHITECTURE.md: CONTENT is created if absent; who comes second reads what the first one wrote."""
        content = self._content(store, scenario)
        if content is None:
            return
        for created in store.create(content_key(self.run), content):
            done: Literal["done", "sweeping"] = "sweeping" if scenario.rules.sweep_follows_content else "done"
            on = self if created.answer == "unknown" else self._replace(at=done)
            yield Step(f"{self.name} creates CONTENT of {self.run}: {created.how}", on, created.store)

    def _content(self, store: Store, scenario: Scenario) -> Named | None:
        """What this assembler would name, or None where the records are gone."""
        vectors = committed_vectors(store.objects, self.run)
        if vectors is None:
            return None
        kept = [] if scenario.compacts else vectors
        carried = [carried_key(self.run)] if scenario.carries else []
        return Named(tuple((key, BYTES) for key in (*kept, *carried, own_key(self.run, self.name))))

    def _sweep(self, store: Store, scenario: Scenario) -> Iterator[Step]:
        """`_sweep`: CONTENT is written once, so that a file that it does not name can never be named."""
        content = store.get(content_key(self.run))
        if not scenario.rules.sweep_follows_content:
            content = self._content(store, scenario)
            yield Step(f"{self.name} ends its sweep", self._replace(at="creating"), store)
        if isinstance(content, Named):
            named = {key for key, _ in content.files}
            files = store.objects.list(f"releases/{self.run}/")
            swept = [key for key in files if store.get(key) == BYTES and key not in named]
            yield from delete_one_of(self.name, self, store, swept, scenario)

    def _give_up(self, store: Store, scenario: Scenario) -> Iterator[Step]:
        """Close the run as damaged, unless a CONTENT is there by now: then what is missing was swept."""
        if scenario.rules.damage_is_looked_at_again and store.get(content_key(self.run)) is not None:
            yield Step(f"{self.name} finds CONTENT of {self.run}", self._replace(at="done"), store)
            return
        for created in store.create(terminal_key(self.run), Terminal(None, "damaged")):
            on = self if created.answer == "unknown" else self._replace(at="done")
            yield Step(f"{self.name} closes {self.run} as damaged: {created.how}", on, created.store)


ASSEMBLER_STEPS = {
    "starting": Assembler._start,
    "gathering": Assembler._gather,
    "carrying": Assembler._carry,
    "writing": Assembler._write,
    "creating": Assembler._create,
    "sweeping": Assembler._sweep,
    "giving up": Assembler._give_up,
}


def carried_key(run: Run) -> Key:
    return f"releases/{run}/vectors/base"


def own_key(run: Run, assembler: str) -> Key:
    return f"releases/{run}/items.{assembler}"


def committed_vectors(objects: Objects, run: Run) -> list[Key] | None:
    """The vector file of every shard, by plan and commit records; None while a record is missing."""
    plan = objects.get(plan_key(run))
    if not isinstance(plan, Plan):
        return None
    keys: list[Key] = []
    for shard, salvaged in zip(plan.shards, plan.salvaged, strict=True):
        attempt = objects.get(commit_key(run, shard))
        if salvaged is None and attempt is None:
            return None
        keys.append(salvaged or vectors_key(run, shard, str(attempt)))
    return keys


class Salvager(NamedTuple):
    """Plans a run that takes over what another has computed.

    It may copy verified shards into its own folder, and computes what is missing; it must not name them where
    they are (docs/decisions/0007). The plan is created last.
    """

    name: str
    run: Run
    source: Run
    shards: tuple[str, ...]
    salvaged: tuple[Key | None, ...] = ()
    done: bool = False

    def moves(self, store: Store, scenario: Scenario) -> Iterator[Step]:
        if self.done:
            return
        if len(self.salvaged) == len(self.shards):
            yield from self._plan(store)
            return
        shard = self.shards[len(self.salvaged)]
        attempt = store.get(commit_key(self.source, shard))
        source = vectors_key(self.source, shard, str(attempt))
        if attempt is None or store.get(source) is None:
            yield Step(f"{self.name} finds nothing to salvage of {shard}", self._take(None), store)
        elif not scenario.rules.salvage_copies:
            yield Step(f"{self.name} takes {source} as it is", self._take(source), store)
        else:
            target = vectors_key(self.run, shard, "salvaged")
            for created in store.create(target, BYTES):
                on = self if created.answer == "unknown" else self._take(target)
                yield Step(f"{self.name} copies {source} to {target}: {created.how}", on, created.store)

    def _take(self, key: Key | None) -> Salvager:
        return self._replace(salvaged=(*self.salvaged, key))

    def _plan(self, store: Store) -> Iterator[Step]:
        plan = Plan("B", self.shards, self.salvaged)
        for created in store.create(plan_key(self.run), plan):
            on = self if created.answer == "unknown" else self._replace(done=True)
            yield Step(f"{self.name} creates {plan_key(self.run)}, {plan}: {created.how}", on, created.store)
