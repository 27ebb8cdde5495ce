"""Garbage collection beside runs, rollbacks, pins, readers and other collectors, and killed anywhere."""

from __future__ import annotations

import shutil
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from tests.support.mill import Mill, items
from tests.support.upkeep import (
    EVERYWHERE,
    Crashed,
    at_call,
    at_call_of,
    at_creation_of,
    copy_of,
    crash,
    in_days,
    orphan_share,
    placed,
    publish_many,
    publishing,
    sizes,
    watched,
)

from embedmill import Release
from embedmill.errors import PublishLost, ReleaseCorrupt, ReleaseMissing
from embedmill.release.admin import rollback, verify
from embedmill.release.collect import Policy, collect
from embedmill.release.describe import list_releases
from embedmill.release.layout import MANIFEST, PLAN, TERMINAL, Home
from embedmill.release.log import read_history
from embedmill.release.reader import open_release
from embedmill.release.runs import abandon
from embedmill.release.transfer import copy_release
from embedmill.spec.documents import Manifest
from embedmill.store.local import LocalStore

NEWEST = Policy(keep=1)


@pytest.fixture
def mill(mill: Mill, request: pytest.FixtureRequest) -> Mill:
    return placed(mill, request)


# Beside others


@EVERYWHERE
def test_a_dry_run_says_what_a_real_one_does_and_changes_nothing(mill: Mill) -> None:
    publish_many(mill, 3)
    mill.worked(items(20))
    home = mill.home
    before = sizes(home)
    shown = collect(home, NEWEST, clock=in_days(8), dry_run=True)
    assert sizes(home) == before
    done = collect(home, NEWEST, clock=in_days(8))
    assert shown.objects
    assert shown.model_copy(update={"dry_run": False}) == done


@EVERYWHERE
def test_a_rollback_that_was_faster_saves_the_release(mill: Mill) -> None:
    first, second, third = publish_many(mill, 3)
    home = mill.home
    rolled = at_creation_of("00000004.json", lambda: rollback(home, first))
    report = collect(watched(home, before=rolled), NEWEST)
    assert [name.release for name in report.retired] == [second]
    assert mill.live().name == first
    verify(home, first)
    verify(home, third)


def test_a_rollback_that_was_slower_is_refused_and_says_why(mill: Mill) -> None:
    first, *_ = publish_many(mill, 2)
    home = mill.home
    collected = at_creation_of("00000003.json", lambda: collect(home, NEWEST))
    with pytest.raises(PublishLost):
        rollback(watched(home, before=collected), first)
    with pytest.raises(ReleaseMissing, match=r"was retired on \S+ by log entry 3: its files are deleted"):
        rollback(home, first)


def test_no_number_is_taken_from_a_run_that_is_just_publishing(mill: Mill) -> None:
    publish_many(mill, 2)
    planned, home = mill.checked(items(12)), mill.home
    home.create(home.run_key(planned.plan.run, TERMINAL), publishing(planned.plan.run, 3))
    report = collect(home, NEWEST)
    assert not report.retired
    assert "is about to take log entry 3" in report.postponed
    assert planned.publish().number == 3
    assert [name.number for name in collect(home, NEWEST).retired] == [1, 2]


def test_a_run_that_closes_while_the_collector_looks_keeps_its_number(mill: Mill) -> None:
    publish_many(mill, 2)
    planned, home = mill.checked(items(12)), mill.home
    terminal = home.run_key(planned.plan.run, TERMINAL)
    ending = publishing(planned.plan.run, 3)
    seen = at_call_of("head", TERMINAL, lambda: home.create(terminal, ending))  # the last look
    report = collect(watched(home, before=seen), NEWEST)
    assert "has just ended" in report.postponed
    assert not report.retired
    assert planned.publish().number == 3


def test_a_stale_run_that_closes_for_publishing_first_is_left_to_it(mill: Mill) -> None:
    planned, home = mill.checked(items(8)), mill.home
    terminal, ending = home.run_key(planned.plan.run, TERMINAL), publishing(planned.plan.run, 1)
    faster = at_creation_of(TERMINAL, lambda: home.create(terminal, ending))
    report = collect(watched(home, before=faster), NEWEST, clock=in_days(8))
    assert (report.abandoned, report.deleted) == ((), ())
    assert [each.why for each in report.left] == ["is being published"]
    assert planned.publish().number == 1
    verify(home, "1")


def test_a_run_that_died_while_publishing_does_not_stop_collecting_for_ever(mill: Mill) -> None:
    publish_many(mill, 2)
    planned, home = mill.checked(items(12)), mill.home
    home.create(home.run_key(planned.plan.run, TERMINAL), publishing(planned.plan.run, 3))
    assert [name.number for name in collect(home, NEWEST, clock=in_days(8)).retired] == [1]
    with pytest.raises(PublishLost):
        planned.publish()
    collect(home, NEWEST)
    assert orphan_share(home) == 0


def test_two_collectors_at_once_do_what_one_does(mill: Mill) -> None:
    publish_many(mill, 4)
    home = mill.home
    for call in range(0, 60, 3):
        mine = copy_of(home)
        other = at_call(call, partial(collect, mine, NEWEST))
        collect(watched(mine, before=other), NEWEST)
        assert [entry.kind for entry in read_history(mine).entries] == ["publish"] * 4 + ["retire"] * 3
        assert orphan_share(mine) == 0


@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_at_any_call_the_next_one_finishes(mill: Mill, moment: str) -> None:
    publish_many(mill, 3)
    mill.checked(items(20))
    home, calls = mill.home, []
    whole = copy_of(home)
    collect(watched(whole, before=lambda *call: calls.append(call)), NEWEST, clock=in_days(8))
    assert len(calls) > 60
    for number in range(moment == "after", len(calls), 2):  # every second one
        killed = copy_of(home)
        with pytest.raises(Crashed):
            collect(watched(killed, **{moment: at_call(number, crash)}), NEWEST, clock=in_days(8))
        for release in read_history(killed).published():
            verify(killed, release.release)
        collect(killed, NEWEST, clock=in_days(8))
        assert set(sizes(killed)) == set(sizes(whole))


# Readers


@EVERYWHERE
def test_a_release_goes_manifest_first_and_a_run_plan_first(mill: Mill) -> None:
    first, _ = publish_many(mill, 2)
    home, deleted = mill.home, []
    told = watched(home, after=lambda method, key: deleted.append(key) if method == "delete" else None)
    collect(told, NEWEST)
    release = [key for key in deleted if key.startswith(home.release_key(first))]
    run = [key for key in deleted if key.startswith(home.run_key(first))]
    assert release[0] == home.release_key(first, MANIFEST)
    assert run[0] == home.run_key(first, PLAN)
    retired = [entry.kind for entry in read_history(home).entries].index("retire")
    assert read_history(home).entries[retired].release == first


@EVERYWHERE
def test_who_opens_a_release_while_it_is_deleted_is_told_so(mill: Mill) -> None:
    publish_many(mill, 2)
    home, folder = mill.home, open_release(mill.home, "1").folder
    with pytest.raises(Crashed):
        collect(watched(home, after=at_call_of("delete", MANIFEST, crash)), NEWEST)
    with pytest.raises(ReleaseMissing, match="was retired"):
        open_release(home, "1")
    if isinstance(home.store, LocalStore):
        with pytest.raises(ReleaseMissing, match=r"it has no MANIFEST\.json"):
            Release.open(folder)


def test_who_opens_a_release_again_and_again_while_it_is_deleted_never_finds_it_damaged(
    mill: Mill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBEDMILL_CACHE", str(tmp_path / "cache"))
    name = mill.run(items(8)).release
    home, copies = mill.home, Home(LocalStore(tmp_path / "copies"), "test")
    copy_release(home, name, copies)
    folder = Path(copies.store.url) / copies.release_key(name)
    for number in range(30):
        copy_release(home, name, copies)
        deleting = threading.Thread(target=delete_after, args=(copies, name, number / 10_000))
        deleting.start()
        with suppress(ReleaseMissing):
            while True:
                shutil.rmtree(tmp_path / "cache" / "stamps", ignore_errors=True)
                Release.open(folder)
        deleting.join()


def delete_after(home: Home, name: str, seconds: float) -> None:
    """What a collector does to a closed run."""
    time.sleep(seconds)
    abandon(home, name, "given up")
    collect(home, clock=in_days(8))
    home.store.delete(home.run_key(name, TERMINAL))


@EVERYWHERE
def test_who_has_a_release_open_goes_on_searching_it(mill: Mill) -> None:
    publish_many(mill, 2)
    release = open_release(mill.home, "1")
    before = release.search("item 3", k=3)
    collect(mill.home, NEWEST)
    assert release.search("item 3", k=3) == before


def test_the_list_leaves_out_what_is_retired_while_it_is_made(mill: Mill) -> None:
    publish_many(mill, 2)
    home = mill.home
    gone = at_call(3, lambda: collect(home, NEWEST))  # the log is read: three gets
    assert [each.number for each in list_releases(watched(home, before=gone))] == [2]


def test_verifying_what_is_retired_meanwhile_does_not_call_it_damaged(mill: Mill) -> None:
    first, _ = publish_many(mill, 2)
    home = mill.home
    gone = at_call(3, lambda: collect(home, NEWEST))  # the log is read: three gets
    with pytest.raises((ReleaseMissing, ReleaseCorrupt)) as caught:
        verify(watched(home, before=gone), first)
    assert "was retired" in caught.value.message


@pytest.mark.parametrize("damage", ["not a manifest", "edited", "another one"])
def test_a_manifest_that_is_not_the_logs_protects_all_that_lies_beside_it(mill: Mill, damage: str) -> None:
    mill.run(items(8))
    home, name = mill.home, mill.live().name
    key = home.release_key(name, MANIFEST)
    manifest = home.read(Manifest, key)
    fewer = manifest.model_copy(update={"files": manifest.files[:1]})
    bodies = {"not a manifest": b"{}", "edited": fewer.to_bytes(), "another one": fewer.sealed().to_bytes()}
    home.store.put(key, bodies[damage])
    before = {key for key in sizes(home) if key.startswith(home.release_key(name))}
    collect(home)
    assert before <= set(sizes(home))
