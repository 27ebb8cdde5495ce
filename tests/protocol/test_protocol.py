"""The commit protocol keeps its promises in every interleaving; without any one of its rules it does not.

`pytest -rA tests/protocol` shows how many states were visited, and the shortest way to each broken promise.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.protocol.agents import files_of
from tests.protocol.explore import Exploration, Sight, World, broken, explore, moves, walk
from tests.protocol.promises import broken_by_change, broken_in
from tests.protocol.scenarios import (
    ASSEMBLERS,
    COMMITS,
    JOINT,
    ROLLBACK,
    SALVAGE,
    VERDICTS,
    commits,
    joint,
    rollback,
    salvage,
    verdicts,
)
from tests.protocol.store import Objects
from tests.protocol.variants import VARIANTS, Variant
from tests.protocol.world import (
    Entry,
    Plan,
    Rules,
    Run,
    Scenario,
    Terminal,
    commit_key,
    plan_key,
    read_history,
    terminal_key,
)

Record = Callable[[str, object], None]
WALKS, STEPS = 50, 400


def in_log(*entries: Entry) -> Sight:
    """Entries that follow one another in the log, others between them or not."""

    def seen(objects: Objects) -> bool:
        rest = iter(objects.derive(read_history).entries)
        return all(entry in rest for entry in entries)

    return seen


def collected(run: Run) -> Sight:
    """A run that was abandoned, and has no file left."""
    return lambda objects: (
        objects.get(terminal_key(run)) == Terminal(None, "old") and not files_of(objects, run)
    )


def commit_without_files(objects: Objects) -> bool:
    """A shard of an abandoned run is committed, and its files are gone, in whatever order that came."""
    return collected("R")(objects) and objects.get(commit_key("R", "s1")) is not None


def published_with_salvaged(objects: Objects) -> bool:
    plan = objects.get(plan_key("S"))
    return in_log(Entry("publish", "S"))(objects) and isinstance(plan, Plan) and any(plan.salvaged)


def published_with_recomputed(objects: Objects) -> bool:
    plan = objects.get(plan_key("S"))
    return in_log(Entry("publish", "S"))(objects) and isinstance(plan, Plan) and not any(plan.salvaged)


ROLLED_BACK: dict[str, Sight] = {
    "a run is published": in_log(Entry("publish", "R1")),
    "a rollback": in_log(Entry("rollback", "A")),
    "a release is retired and its files are deleted": lambda objects: (
        in_log(Entry("retire", "A"))(objects) and not files_of(objects, "A")
    ),
    "a rollback to what a run replaced": in_log(Entry("publish", "R2"), Entry("rollback", "B")),
    "an abandoned run is collected": collected("R1"),
}
LIFTED = {
    "published again after a hold": in_log(
        Entry("rollback", "B"), Entry("unhold", "B"), Entry("publish", "R1")
    )
}
COMMITTED: dict[str, Sight] = {
    "published": in_log(Entry("publish", "R")),
    "abandoned and collected": collected("R"),
    "committed and collected": commit_without_files,
}
SALVAGED: dict[str, Sight] = {
    "published with salvaged vectors": published_with_salvaged,
    "published with vectors of its own": published_with_recomputed,
    "salvaged from a collected run": lambda objects: (
        published_with_salvaged(objects) and collected("R")(objects)
    ),
}


def keeps_its_promises(
    scenario: Scenario, start: World, record: Record, sights: dict[str, Sight] | None = None
) -> Exploration:
    """Explore everything, print the figures, and see that what should happen does happen."""
    found = explore(scenario, start, sights=sights)
    tell(found, record)
    assert not found.broken, str(found)
    assert found.complete
    assert found.seen == set(sights or {})
    return found


def tell(found: Exploration, record: Record) -> None:
    """Show the figures where `pytest -rA` and the report have them."""
    print(found)  # noqa: T201
    record("states", found.states)
    record("transitions", found.transitions)
    record("steps", len(found.trace))


def test_no_interleaving_of_two_publishers_a_rollback_and_a_collector_loses_a_needed_file(
    record_property: Record,
) -> None:
    scenario = ROLLBACK._replace(intentions=("rollback",), late=1)
    keeps_its_promises(scenario, rollback(scenario), record_property, ROLLED_BACK)


def test_nor_does_one_in_which_the_operator_also_lifts_holds(record_property: Record) -> None:
    scenario = ROLLBACK._replace(entries=6, late=1, at_once=True, intentions=("rollback", "unhold"))
    keeps_its_promises(scenario, rollback(scenario), record_property, ROLLED_BACK | LIFTED)


def test_no_interleaving_of_workers_assemblers_and_publishers_publishes_a_file_that_is_gone(
    record_property: Record,
) -> None:
    scenario = ASSEMBLERS._replace(late=0)
    start = commits(scenario, assemblers="XY")
    keeps_its_promises(scenario, start, record_property, COMMITTED)


def test_no_interleaving_of_a_run_that_salvages_another_depends_on_files_that_are_not_its_own(
    record_property: Record,
) -> None:
    scenario = SALVAGE._replace(late=0)
    keeps_its_promises(scenario, salvage(scenario, rivals=False), record_property, SALVAGED)


def test_no_interleaving_of_two_processes_that_check_one_run_publishes_verdicts_that_were_not_sealed(
    record_property: Record,
) -> None:
    keeps_its_promises(
        VERDICTS, verdicts(VERDICTS), record_property, {"published": in_log(Entry("publish", "R"))}
    )


def test_the_protocol_does_not_need_the_publishers_look_at_the_files_which_is_for_damage(
    record_property: Record,
) -> None:
    scenario = COMMITS._replace(late=0, rules=Rules(files_are_checked=False))
    keeps_its_promises(scenario, commits(scenario), record_property, COMMITTED)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.rule)
def test_without_this_rule_the_explorer_finds_a_broken_promise(
    variant: Variant, record_property: Record
) -> None:
    scenario = variant.scenario._replace(name=f"without {variant.rule}", rules=variant.rules)
    found = explore(scenario, variant.start(scenario))
    tell(found, record_property)
    assert variant.broken in found.broken
    assert broken_again(found, variant.start(scenario)), "the trace does not lead there"


def broken_again(found: Exploration, start: World) -> bool:
    """Whether its trace, step by step, leads to what was found."""
    scenario, worlds, last = found.scenario, {start}, {start}
    for text in found.trace:
        last = worlds
        worlds = {after for world in worlds for said, after in moves(world, scenario) if said == text}
    ends = [(before.store.objects, after) for before in last for after in worlds]
    return any(
        broken_by_change(before, after.store.objects) or broken(after, scenario) for before, after in ends
    )


@pytest.mark.soak
@pytest.mark.parametrize(
    "scenario",
    [
        ROLLBACK._replace(entries=5, late=1, intentions=("rollback", "unhold")),
        ROLLBACK._replace(entries=4, late=1, intentions=("rollback", "pin")),
        ROLLBACK._replace(entries=4, late=2, late_deletes=True, intentions=("rollback",)),
    ],
    ids=["a longer log", "pins", "late deletes"],
)
def test_no_interleaving_with_more_that_may_happen_loses_a_needed_file(
    scenario: Scenario, record_property: Record
) -> None:
    keeps_its_promises(scenario, rollback(scenario), record_property)


@pytest.mark.soak
def test_no_interleaving_with_late_requests_and_deleted_documents_publishes_a_file_that_is_gone(
    record_property: Record,
) -> None:
    scenario = COMMITS._replace(late=1, deletes_documents=True)
    keeps_its_promises(scenario, commits(scenario), record_property, COMMITTED)


@pytest.mark.soak
def test_no_interleaving_with_more_attempts_publishes_a_file_that_is_gone(record_property: Record) -> None:
    scenario = COMMITS._replace(late=0, deletes_documents=True)
    keeps_its_promises(scenario, commits(scenario, tries=2), record_property, COMMITTED)


@pytest.mark.soak
def test_no_interleaving_of_assemblers_that_compact_publishes_a_file_that_is_gone(
    record_property: Record,
) -> None:
    scenario = ASSEMBLERS._replace(late=0, compacts=True)
    keeps_its_promises(scenario, commits(scenario, assemblers="XY"), record_property, COMMITTED)


@pytest.mark.soak
@pytest.mark.parametrize("compacts", [False, True])
def test_no_interleaving_of_two_rivals_of_which_one_salvages_the_other_loses_a_needed_file(
    compacts: bool, record_property: Record
) -> None:
    scenario = SALVAGE._replace(late=0, compacts=compacts)
    keeps_its_promises(scenario, salvage(scenario), record_property, SALVAGED)


@pytest.mark.soak(quick=2, large=10)
def test_random_walks_through_all_of_it_at_once_break_no_promise(seed: int, record_property: Record) -> None:
    scenario = JOINT._replace(compacts=seed % 2 == 1, retained=1 + seed // 2 % 2)
    states = transitions = published = 0
    for number in range(WALKS):
        found = walk(scenario, joint(scenario), seed * WALKS + number, steps=STEPS)
        states += found.states
        transitions += found.transitions
        published += found.published
        assert not found.broken, str(found)
    tell(Exploration(scenario, states, transitions, published=published), record_property)
    assert published, "the walks lead nowhere"


def test_a_counterexample_reads_as_a_numbered_list_of_steps() -> None:
    variant = VARIANTS[0]
    scenario = variant.scenario._replace(rules=variant.rules)
    lines = str(explore(scenario, variant.start(scenario))).splitlines()
    assert "after" in lines[0]
    assert lines[1].startswith("   1. ")
    assert lines[-1].startswith(f"  {len(lines) - 1:2}. ")


def test_the_promises_hold_at_the_start_of_every_scenario() -> None:
    for variant in VARIANTS:
        assert not broken_in(variant.start(variant.scenario).store.objects, variant.scenario)
