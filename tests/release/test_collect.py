"""Garbage collection: what stays, what goes, and that nobody else's work is touched."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.support.mill import Mill, items
from tests.support.upkeep import (
    EVERYWHERE,
    at_creation_of,
    copy_of,
    in_days,
    orphan_share,
    placed,
    publish_many,
    publishing,
    sizes,
    watched,
)

from embedmill.errors import Held, PublishLost, SpecError
from embedmill.planning import Planner
from embedmill.release.admin import pin, rollback, unhold, unpin, verify
from embedmill.release.collect import Policy, collect
from embedmill.release.layout import PLAN, TERMINAL, Home
from embedmill.release.log import read_history
from embedmill.release.reader import open_release
from embedmill.release.runs import open_plans
from embedmill.release.survey import HOPELESS
from embedmill.spec.documents import Terminal
from embedmill.store.local import LocalStore
from embedmill.work import WorkerOptions, work

NEWEST = Policy(keep=1)


@pytest.fixture
def mill(mill: Mill, request: pytest.FixtureRequest) -> Mill:
    return placed(mill, request)


def numbers(home: Home) -> list[int]:
    return [release.number for release in read_history(home).published()]


def below(home: Home, prefix: str) -> set[str]:
    return {info.key.removeprefix(prefix + "/") for info in home.store.list(prefix)}


# What stays


@EVERYWHERE
def test_the_newest_the_live_and_the_pinned_stay_and_the_others_go(mill: Mill) -> None:
    names = publish_many(mill, 6)
    pin(mill.home, "1", note="golden")
    rollback(mill.home, "3")
    report = collect(mill.home, Policy(keep=2))
    assert [name.number for name in report.retired] == [2, 4]
    assert {each.number: each.why for each in report.kept} == {
        1: ("pinned by log entry 7: golden",),
        3: ("live",),
        5: ("among the newest 2",),
        6: ("among the newest 2",),
    }
    for name in (names[0], names[2], names[4], names[5]):
        verify(mill.home, name)
        assert open_release(mill.home, name).search("item 3", k=1)
    for name in (names[1], names[3]):
        assert not below(mill.home, mill.home.release_key(name))
    assert orphan_share(mill.home) == 0


def test_a_release_goes_once_nothing_keeps_it_any_more(mill: Mill) -> None:
    publish_many(mill, 3)
    pin(mill.home, "1")
    rollback(mill.home, "2")
    assert not collect(mill.home, NEWEST).retired
    unpin(mill.home, "1")
    assert [name.number for name in collect(mill.home, NEWEST).retired] == [1]
    rollback(mill.home, "3")
    assert [name.number for name in collect(mill.home, NEWEST).retired] == [2]
    assert numbers(mill.home) == [3]


def test_a_run_whose_base_is_live_no_more_is_closed_and_does_not_keep_its_base(mill: Mill) -> None:
    base = mill.run(items(8)).release
    planned, home = mill.worked(items(9)), mill.home
    publish_beside(mill)
    report = collect(home, NEWEST)
    (closed,) = report.abandoned
    assert (closed.run, closed.why) == (planned.plan.run, HOPELESS)
    assert [name.release for name in report.retired] == [base]


def test_what_a_closed_run_has_finished_stays_until_the_next_release_had_its_chance(mill: Mill) -> None:
    mill.run(items(8))
    planned, home = mill.worked(items(20)), mill.home
    mill.open().cancel()
    home.store.delete(home.run_key(planned.plan.run, TERMINAL))
    later = (home.world.now() + timedelta(seconds=5)).isoformat()
    terminal = Terminal(run=planned.plan.run, outcome="abandon", number=None, why="cancelled", created=later)
    home.create(home.run_key(planned.plan.run, TERMINAL), terminal)
    report = collect(home)
    assert planned.plan.run not in {each.name for each in report.deleted}
    assert [each.run for each in report.left] == [planned.plan.run]
    assert mill.planned(items(21)).plan.compute == 1
    assert planned.plan.run in {each.name for each in collect(home, clock=in_days(8)).deleted}


def test_what_a_run_has_finished_whose_base_a_rollback_took_away_is_not_lost(mill: Mill) -> None:
    mill.run(items(8))
    mill.run(items(9))
    planned = mill.worked(items(20))
    rollback(mill.home, "1")
    report = collect(mill.home)
    assert [each.run for each in report.abandoned] == [planned.plan.run]
    assert planned.plan.run not in {each.name for each in report.deleted}
    assert not report.left
    assert mill.planned(items(21)).plan.compute == 2  # the ninth item, and the last


def publish_beside(mill: Mill) -> None:
    """A release of another run, which leaves open those that there are."""
    pipeline = mill.open()
    planner = Planner(pipeline.home, pipeline.spec, pipeline.root, pipeline.package, pipeline.live())
    plan, _ = planner.plan()
    work(pipeline.home, plan.run, WorkerOptions("beside"))
    pipeline.open_run(plan.run).run()


def test_an_open_run_is_left_alone_and_finishes_afterwards(mill: Mill) -> None:
    publish_many(mill, 2)
    planned = mill.worked(items(12))
    report = collect(mill.home, NEWEST)
    assert [each.run for each in report.left] == [planned.plan.run]
    assert numbers(mill.home) == [2]
    assert planned.run().number == 4
    verify(mill.home, "4")


def test_a_candidate_on_hold_waits_however_long_it_takes(mill: Mill) -> None:
    publish_many(mill, 2)
    rollback(mill.home, "1")
    with pytest.raises(Held):
        mill.run(items(12))
    report = collect(mill.home, NEWEST, clock=in_days(1000))
    assert [each.why for each in report.left] == ["waits for the hold to be lifted"]
    unhold(mill.home)
    assert mill.open().plan().run().total == 12


def test_a_policy_keeps_at_least_the_newest() -> None:
    with pytest.raises(SpecError):
        Policy(keep=0)


# What goes of a run


def test_of_a_published_run_its_terminal_and_commit_records_stay(mill: Mill) -> None:
    mill.run(items(8))
    name = mill.live().name
    report = collect(mill.home)
    assert below(mill.home, mill.home.run_key(name)) == {TERMINAL, "commits/00000.json"}
    assert [(each.what, each.name) for each in report.deleted] == [("run", name)]
    verify(mill.home, name)
    assert not collect(mill.home).deleted


@EVERYWHERE
def test_a_closed_run_loses_its_data_and_its_candidate(mill: Mill) -> None:
    mill.run(items(8))
    planned = mill.checked(items(9))
    mill.open().cancel()
    mill.run(items(10))
    report = collect(mill.home)
    assert {each.what for each in report.deleted if each.name == planned.plan.run} == {"release", "run"}
    assert below(mill.home, mill.home.run_key(planned.plan.run)) == {TERMINAL}
    assert not below(mill.home, mill.home.release_key(planned.plan.run))


def test_a_run_whose_number_went_to_another_is_closed(mill: Mill) -> None:
    mill.run(items(8))
    planned, home = mill.checked(items(9)), mill.home
    home.create(home.run_key(planned.plan.run, TERMINAL), publishing(planned.plan.run, 2))
    pin(home, "1")
    collect(home)
    assert below(home, home.run_key(planned.plan.run)) == {TERMINAL}
    assert not below(home, home.release_key(planned.plan.run))
    assert home.read(Terminal, home.run_key(planned.plan.run, TERMINAL)).number == 2


@EVERYWHERE
def test_late_writes_into_closed_runs_go_with_the_next_call(mill: Mill) -> None:
    first, second = publish_many(mill, 2)
    home = mill.home
    collect(home, NEWEST)
    late = [
        home.release_key(first, "vectors", first, "part-00000.late.arrow"),
        home.release_key(second, "vectors", second, "part-00000.late.arrow"),
        home.run_key(first, "commits", "00000.json"),
        home.run_key(second, PLAN),
    ]
    for key in late:
        home.store.put(key, b"late")
    report = collect(home, NEWEST)
    assert (report.objects, report.size_bytes) == (4, 16)
    assert not set(late) & set(sizes(home))
    verify(home, second)


# Age decides when to try


def test_a_run_in_which_nothing_changes_any_more_is_abandoned(mill: Mill) -> None:
    planned, home = mill.worked(items(9)), mill.home
    assert not collect(home, clock=in_days(6.9)).abandoned
    report = collect(home, clock=in_days(7.1))
    assert [(each.run, each.why) for each in report.abandoned] == [
        (planned.plan.run, "nothing has changed in it for 7 days")
    ]
    assert set(sizes(home)) == {home.run_key(planned.plan.run, TERMINAL)}


def test_who_publishes_a_run_while_it_is_abandoned_is_refused(mill: Mill) -> None:
    planned, home = mill.checked(items(9)), mill.home
    closing = at_creation_of(TERMINAL, lambda: collect(home, clock=in_days(8)))
    planned.pipeline.__dict__["home"] = watched(home, before=closing)
    with pytest.raises(PublishLost, match="was closed: nothing has changed in it for 7 days"):
        planned.publish()
    collect(home)
    assert set(sizes(home)) == {home.run_key(planned.plan.run, TERMINAL)}


def test_a_commit_of_today_keeps_an_old_plan_open(mill: Mill) -> None:
    planned, home = mill.planned(items(9)), mill.home
    old = planned.plan.model_copy(update={"created": "2020-01-01T00:00:00Z"})
    home.store.put(home.run_key(old.run, PLAN), old.to_bytes())
    assert [each.run for each in collect(copy_of(home)).abandoned] == [old.run]
    mill.worked()
    assert not collect(home).abandoned


@pytest.mark.parametrize("stamp", ["%Y%m%dT%H%M%S", "%Y%m%dT%H%M%S000"])
def test_what_a_planner_left_is_closed_before_it_is_deleted(mill: Mill, stamp: str) -> None:
    mill.run(items(8))
    home, run = mill.home, f"{datetime.now(UTC):{stamp}}-dead"
    keys = [home.run_key(run, "frozen", "00000.arrow"), home.release_key(run, "model", "model.yaml")]
    for key in keys:
        home.store.put(key, b"x")
    assert [each.run for each in collect(home).left] == [run]
    assert set(keys) <= set(sizes(home))
    order: list[str] = []
    collect(watched(home, after=lambda method, key: order.append(f"{method} {key}")), clock=in_days(8))
    created = order.index(f"put_if_absent {home.run_key(run, TERMINAL)}")
    assert all(order.index(f"delete {key}") > created for key in keys)


def test_a_planner_that_was_only_slow_plans_into_a_closed_run_and_that_does_no_harm(mill: Mill) -> None:
    mill.run(items(8))
    mill.write(items(9))
    pipeline, home = mill.open(), mill.home
    slow = at_creation_of(PLAN, lambda: collect(home, clock=in_days(8)))
    pipeline.__dict__["home"] = watched(home, before=slow)
    late = pipeline.plan()
    assert home.exists(home.run_key(late.plan.run, PLAN))
    assert not list(open_plans(home))
    assert mill.run(items(9)).number == 2
    collect(home)
    assert below(home, home.run_key(late.plan.run)) == {TERMINAL}
    assert orphan_share(home) == 0


def test_names_that_are_no_runs_are_left(mill: Mill) -> None:
    mill.run(items(8))
    home = mill.home
    for key in (home.release_key("notes", "readme.txt"), home.run_key("readme.txt")):
        home.store.put(key, b"mine")
    report = collect(home, clock=in_days(1000))
    assert {each.run for each in report.left} == {"notes", "readme.txt"}
    assert {home.release_key("notes", "readme.txt"), home.run_key("readme.txt")} <= set(sizes(home))


def test_a_run_of_another_version_is_left(mill: Mill) -> None:
    planned, home = mill.worked(items(8)), mill.home
    newer = planned.plan.to_bytes().replace(b'"plan/1"', b'"plan/999"')
    assert newer != planned.plan.to_bytes()
    home.store.put(home.run_key(planned.plan.run, PLAN), newer)
    before = sizes(home)
    (left,) = collect(home, clock=in_days(1000)).left
    assert "found schema plan/999" in left.why
    assert sizes(home) == before


def test_a_release_that_someone_deleted_by_hand_is_retired_like_any_other(mill: Mill) -> None:
    first, _ = publish_many(mill, 2)
    home = mill.home
    for folder in (home.release_key(first), home.run_key(first)):
        for key in below(home, folder):
            home.store.delete(f"{folder}/{key}")
    assert [name.release for name in collect(home, NEWEST).retired] == [first]
    assert numbers(home) == [2]


# What no listing shows


def test_only_old_unfinished_objects_go(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    store.put("shop/a", b"1")
    temporary = store.root / ".tmp"
    old, new = temporary / "old", temporary / "new"
    for file in (old, new):
        file.write_bytes(b"half")
    yesterday = time.time() - 90_000
    os.utime(old, (yesterday, yesterday))
    os.utime(temporary / "lock", (yesterday, yesterday))
    home = Home(store, "shop")
    shown = collect(home, dry_run=True)
    assert (shown.unfinished_objects, shown.unfinished_bytes, old.exists()) == (1, 4, True)
    assert collect(home).unfinished_objects == 1
    assert sorted(path.name for path in temporary.iterdir()) == ["lock", "new"]
    assert collect(home).unfinished_objects == 0
