"""Finding runs: at the cost of the runs there are, whatever lies below them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.mill import Mill, items
from tests.support.s3 import S3, as_identity
from tests.support.storm import storm
from tests.support.upkeep import WatchedStore

from embedmill.errors import RunClosed, RunDamaged, RunMissing, StoreError
from embedmill.planned import PlannedRun
from embedmill.release.describe import run_states
from embedmill.release.history import newest_plan
from embedmill.release.layout import PLAN, TERMINAL, Home
from embedmill.release.runs import closed_if_damaged, open_plans, read_plan, terminal_of, unpublished_runs
from embedmill.spec.documents import Terminal
from embedmill.store import LocalPaths, open_store
from embedmill.store.faulty import FaultyStore

MORE_THAN_A_PAGE = 1_100
"""An answer of S3 lists 1,000 objects."""


def fill(home: Home, run: str, count: int) -> None:
    """As many more commit records, as of a run of so many shards."""
    for number in range(1, count + 1):
        home.store.put(home.run_key(run, "commits", f"{number:05d}.json"), b"{}")


def traced(home: Home) -> tuple[Home, FaultyStore]:
    store = FaultyStore(home.store)
    return Home(store, home.pipeline), store


COMMIT = "commits/00000.json"


def replace(run: PlannedRun, name: str, data: bytes) -> None:
    run.home.store.put(run.home.run_key(run.plan.run, name), data)


@pytest.mark.parametrize("name", [PLAN, COMMIT])
@pytest.mark.parametrize("data", [b"", b'{"schema": "plan', b"[]", b"\xff{}"])
def test_run_closes_a_run_with_a_damaged_document_and_takes_over_what_is_whole(
    mill: Mill, name: str, data: bytes
) -> None:
    mill.settings["work"] = {"shard_rows": 16}
    left = mill.worked(items(40))
    lost = 40 if name == PLAN else left.plan.shards[0].rows
    replace(left, name, data)
    told: list[str] = []

    def on_planned(planned: PlannedRun) -> None:
        told.extend(planned.outlived.values())

    report = mill.open().run(on_progress=lambda each: told.append(each.note), on_planned=on_planned)
    assert (report.number, report.embedded + report.reused) == (1, 40)
    assert report.computed == lost
    closed = terminal_of(mill.home, left.plan.run)
    assert closed is not None
    assert f"{left.plan.run}/{name}: not a " in closed.why
    assert any(closed.why in note for note in told), told


@pytest.mark.parametrize("name", [PLAN, COMMIT])
def test_a_damaged_run_that_was_about_to_be_published_is_told_with_a_way_out(mill: Mill, name: str) -> None:
    left = mill.worked(items(20))
    run, now = left.plan.run, left.home.now()
    terminal = Terminal(run=run, outcome="publish", number=1, why="gates passed", created=now)
    left.home.create(left.home.run_key(run, TERMINAL), terminal)
    replace(left, name, b"")
    folder = Path(mill.home.store.url) / mill.home.run_key(left.plan.run)
    for _ in range(2):
        with pytest.raises(RunDamaged, match=name) as caught:
            mill.open().run()
        assert caught.value.hint == f"move {folder} away: nothing that is published lies there"
        assert caught.value.run == left.plan.run
    folder.rename(mill.root / "away")
    assert mill.run(items(20)).number == 1


@pytest.mark.parametrize("by_name", [True, False])
def test_a_run_whose_plan_is_damaged_is_told_by_name_and_can_be_cancelled(mill: Mill, by_name: bool) -> None:
    left = mill.worked(items(20))
    run = left.plan.run
    replace(left, PLAN, b"")
    for name in (run, None):
        with pytest.raises(RunDamaged, match=PLAN) as caught:
            mill.open().open_run(name)
        assert caught.value.hint == "`embedmill run` closes that run, and plans anew"
    closed = mill.open().cancel(run if by_name else None)
    assert (closed.run, closed.outcome) == (run, "abandon")
    with pytest.raises(RunDamaged) as caught:
        mill.open().open_run(run)
    assert caught.value.hint == "that run is closed, and `embedmill run` plans anew"
    with pytest.raises(RunMissing):
        mill.open().cancel()
    with pytest.raises(RunMissing, match="no run 'another'"):
        mill.open().cancel("another")


def test_a_report_passes_over_a_damaged_run_once_it_is_closed(mill: Mill) -> None:
    live = mill.run(items(20))
    left = mill.worked(items(21))
    replace(left, PLAN, b"")
    with pytest.raises(RunDamaged, match=PLAN):
        newest_plan(mill.home)
    mill.open().cancel(left.plan.run)
    assert newest_plan(mill.home).run == live.release


def test_a_report_of_a_damaged_run_alone_says_that_it_is_closed(mill: Mill) -> None:
    left = mill.worked(items(20))
    replace(left, PLAN, b"")
    mill.open().cancel()
    with pytest.raises(RunDamaged) as caught:
        newest_plan(mill.home)
    assert caught.value.hint == "that run is closed, and `embedmill run` plans anew"


def test_a_run_is_not_closed_for_the_damaged_document_of_another(mill: Mill) -> None:
    other = mill.worked(items(20))
    mine = mill.planned(items(21))
    replace(other, PLAN, b"")
    with pytest.raises(RunDamaged), closed_if_damaged(mill.home, mine.plan.run):
        read_plan(mill.home, other.plan.run)
    assert terminal_of(mill.home, mine.plan.run) is None
    with pytest.raises(RunClosed), closed_if_damaged(mill.home, other.plan.run):
        read_plan(mill.home, other.plan.run)


@pytest.mark.parametrize("name", [PLAN, COMMIT])
def test_a_run_of_a_newer_version_is_left_open_and_told_with_a_way_out(mill: Mill, name: str) -> None:
    left = mill.worked(items(20))
    replace(left, name, b'{"schema": "any/99", "run": "x"}')
    with pytest.raises(StoreError, match=f"{name}: found schema any/99") as caught:
        mill.open().run()
    folder = Path(mill.home.store.url) / mill.home.run_key(left.plan.run)
    assert f"move {folder} away" in caught.value.hint
    assert terminal_of(mill.home, left.plan.run) is None
    folder.rename(mill.root / "away")
    assert mill.run(items(20)).number == 1


def test_no_object_of_a_published_run_is_listed_or_asked_for(mill: Mill) -> None:
    published = [mill.run(items(8 + n)).release for n in range(3)]
    left = mill.worked(items(20)).plan
    home, store = traced(mill.home)
    assert [plan.run for plan in open_plans(home)] == [left.run]
    (state,) = run_states(home, lambda _: "")
    assert (state.run, state.shards_done) == (left.run, state.shards)
    calls = [call for call, _ in store.trace]
    assert [call.key for call in calls if call.verb == "folders"] == [f"{home.pipeline}/runs"] * 2
    below = {call.key for call in calls if call.key.startswith(f"{home.pipeline}/runs/")}
    assert below
    assert not [key for key in below if key.split("/")[2] in published]
    assert {call.key for call in calls if call.verb == "list"} <= {
        home.run_key(left.run, folder) for folder in ("commits", "events")
    }


def test_planning_and_status_ask_the_same_of_runs_with_few_shards_and_with_many(
    mill: Mill, seaweed: S3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EMBEDMILL_CACHE", str(tmp_path / "cache"))
    as_identity(monkeypatch, seaweed.admin, seaweed.endpoint)
    mill.settings["store"] = seaweed.new_url()
    release = mill.run(items(8)).release
    few = asked(mill, seaweed, monkeypatch)
    fill(mill.home, release, MORE_THAN_A_PAGE)
    assert asked(mill, seaweed, monkeypatch) == few


def asked(mill: Mill, seaweed: S3, patch: pytest.MonkeyPatch) -> int:
    """Lists that finding the runs took."""
    with storm(seaweed.endpoint) as proxy:
        as_identity(patch, seaweed.admin, proxy.endpoint)
        home = Home(open_store(mill.home.store.url), mill.home.pipeline)
        assert list(unpublished_runs(home)) == []
        assert list(run_states(home, lambda _: "")) == []
        lists = sum(count for what, count in proxy.asked.items() if what.startswith("GET list"))
        as_identity(patch, seaweed.admin, seaweed.endpoint)
    assert lists == 2
    return proxy.requests


def test_a_store_that_cannot_name_folders_gives_the_same_runs(mill: Mill) -> None:
    mill.run(items(8))
    mill.worked(items(20))
    plain = Home(WatchedStore(mill.home.store), mill.home.pipeline)
    assert list(unpublished_runs(plain)) == list(unpublished_runs(mill.home)) != []


def test_runs_without_a_plan_and_files_beside_runs_are_none(mill: Mill) -> None:
    left = mill.planned(items(8)).plan
    home = mill.home
    home.store.put(home.run_key("20200101T000000-dead", "frozen", "00000.arrow"), b"x")
    home.store.put(home.run_key("readme.txt"), b"x")
    ended = Terminal(run="20200102T000000-dead", outcome="abandon", number=None, why="", created=left.created)
    home.create(home.run_key(ended.run, "terminal.json"), ended)
    assert [run.name for run in unpublished_runs(home)] == [left.run]
    assert isinstance(home.store, LocalPaths)
    assert home.store.path(home.run_key(left.run, PLAN)).is_file()
