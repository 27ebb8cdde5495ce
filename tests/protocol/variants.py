"""The protocol with one rule left out, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tests.protocol.explore import World
from tests.protocol.scenarios import (
    COMMITS,
    ROLLBACK,
    SALVAGE,
    VERDICTS,
    commits,
    rollback,
    salvage,
    verdicts,
)
from tests.protocol.world import Kind, Rules, Scenario

ALL = Rules().number_is_that_of_the_decision
ONLY_ROLLBACK = ROLLBACK._replace(intentions=("rollback",))


class Variant(NamedTuple):
    """Without `rule`, the explorer finds `broken`."""

    rule: str
    rules: Rules
    scenario: Scenario
    start: Callable[[Scenario], World]
    broken: str


def loose(kind: Kind) -> Rules:
    """Entries of this kind go under whatever number is next when they are sent."""
    return Rules(number_is_that_of_the_decision=ALL - {kind})


def one_shard(scenario: Scenario) -> World:
    return commits(scenario, shards=1, publishers="P")


def one_rival(scenario: Scenario) -> World:
    return salvage(scenario, rivals=False)


def two_assemblers(scenario: Scenario) -> World:
    return commits(scenario, shards=1, assemblers="XY", publishers="P")


VARIANTS = (
    Variant(
        "winning terminal=abandon before deleting a run's files",
        Rules(abandon_is_won_before_deleting=False),
        ONLY_ROLLBACK._replace(only_releases=True),
        rollback,
        "the live release, R1, lacks releases/R1/items",
    ),
    Variant(
        "winning the terminal before publishing",
        Rules(terminal_is_won_before_publishing=False),
        ONLY_ROLLBACK,
        rollback,
        "the live release, R1, lacks releases/R1/items",
    ),
    Variant(
        "looking at who took the number",
        Rules(taken_is_looked_into=False),
        ONLY_ROLLBACK,
        rollback,
        "the live release, R1, lacks releases/R1/items",
    ),
    Variant(
        "keeping the number when the outcome is unknown",
        Rules(unknown_keeps_its_number=False),
        ONLY_ROLLBACK,
        rollback,
        "R1 was published twice",
    ),
    Variant(
        "publishing under the number of the decision",
        loose("publish"),
        ONLY_ROLLBACK._replace(late=0),
        rollback,
        "R1 was published while a hold stood",
    ),
    Variant(
        "publishing only on the live release",
        Rules(publishing_minds_its_base=False),
        ONLY_ROLLBACK,
        rollback,
        "was published on B, but R",
    ),
    Variant(
        "refusing to publish while a hold stands",
        Rules(publishing_minds_a_hold=False),
        ONLY_ROLLBACK._replace(entries=5, at_once=True),
        rollback,
        "was published while a hold stood",
    ),
    Variant(
        "keeping old log entries",
        Rules(log_entries_are_kept=False),
        ONLY_ROLLBACK,
        rollback,
        "a release was live, but the log knows of none",
    ),
    Variant(
        "a retire entry before deleting a release",
        Rules(retire_is_logged_before_deleting=False),
        ONLY_ROLLBACK,
        rollback,
        "a release that may be rolled back to, A, lacks releases/A/items",
    ),
    Variant(
        "refusing to roll back to a retired release",
        Rules(rollback_refuses_retired=False),
        ONLY_ROLLBACK,
        rollback,
        "the rollback made A live, which was retired",
    ),
    Variant(
        "rolling back under the number of the decision",
        loose("rollback"),
        ONLY_ROLLBACK,
        rollback,
        "the rollback made A live, which was retired",
    ),
    Variant(
        "retiring under the number of the decision",
        loose("retire"),
        ONLY_ROLLBACK,
        rollback,
        "A was retired while it was live",
    ),
    Variant(
        "sparing the live release",
        Rules(retire_spares_live=False),
        ONLY_ROLLBACK,
        rollback,
        "A was retired while it was live",
    ),
    Variant(
        "sparing pinned releases",
        Rules(retire_spares_pinned=False),
        ROLLBACK._replace(intentions=("pin",)),
        rollback,
        "A was retired although it was pinned",
    ),
    Variant(
        "pinning under the number of the decision",
        loose("pin"),
        ROLLBACK._replace(intentions=("pin",)),
        rollback,
        "A was pinned after it was retired",
    ),
    Variant(
        "creating a commit record only if there is none",
        Rules(commits_are_created_once=False),
        COMMITS,
        commits,
        "runs/R/commits/s1 changed from",
    ),
    Variant(
        "losing attempts that delete nothing but their own files",
        Rules(losers_delete_only_their_own=False),
        COMMITS._replace(only_releases=True, late=0),
        one_shard,
        "the live release, R, lacks releases/R/vectors/s1",
    ),
    Variant(
        "keeping the commit records of a published run",
        Rules(commits_of_releases_are_kept=False),
        COMMITS._replace(late=0),
        one_shard,
        "the live release, R, lacks releases/R/vectors/s1",
    ),
    Variant(
        "creating CONTENT before sweeping",
        Rules(sweep_follows_content=False),
        COMMITS._replace(only_releases=True, late=0),
        two_assemblers,
        "the live release, R, lacks releases/R/items",
    ),
    Variant(
        "copying what is salvaged",
        Rules(salvage_copies=False),
        SALVAGE._replace(only_releases=True, late=0),
        one_rival,
        "the live release, S, lacks releases/R/vectors/s1.W0",
    ),
    Variant(
        "creating verdicts only if there are none",
        Rules(verdicts_are_created_once=False),
        VERDICTS,
        verdicts,
        "has other bytes in releases/R/gates than MANIFEST says",
    ),
    Variant(
        "looking for CONTENT before closing a run as damaged",
        Rules(damage_is_looked_at_again=False),
        COMMITS._replace(compacts=True, late=0),
        two_assemblers,
        "R was closed as damaged, but all files of its candidate are there",
    ),
)
