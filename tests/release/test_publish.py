"""Publishing is one create of a log entry: it can be repeated, and resumed after dying anywhere before."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.support.mill import Mill, items

from embedmill.errors import GateFailed, Held, ObjectMissing, PublishLost, ReleaseCorrupt, ShardsMissing
from embedmill.planned import PlannedRun
from embedmill.release import layout, runs
from embedmill.release.admin import rollback, unhold, verify
from embedmill.release.assemble import assemble
from embedmill.release.collect import collect
from embedmill.release.integrity import read_manifest
from embedmill.release.layout import Home
from embedmill.release.log import append, read_history
from embedmill.release.publish import publish, seal
from embedmill.release.runs import abandon, open_plans
from embedmill.release.segments import read_commits
from embedmill.release.verdicts import verdicts_on
from embedmill.spec.document import now
from embedmill.spec.documents import Content, Gates, Manifest, Terminal
from embedmill.store import ObjectInfo
from embedmill.store.local import LocalStore


def content_of(run: PlannedRun) -> Content:
    return run.home.read(Content, run.home.release_key(run.plan.run, layout.CONTENT))


def gates_of(run: PlannedRun) -> Gates:
    gates = verdicts_on(run.home, run.plan.run)
    assert gates is not None
    return gates


def sealed(run: PlannedRun) -> Manifest:
    return seal(run.home, content_of(run), gates_of(run))


def terminal_of(run: PlannedRun) -> Terminal:
    return run.home.read(Terminal, run.home.run_key(run.plan.run, layout.TERMINAL))


def write_terminal(run: PlannedRun, number: int) -> None:
    """What a publisher does last before the commit."""
    terminal = Terminal(run=run.plan.run, outcome="publish", number=number, why="gates passed", created=now())
    run.home.create(run.home.run_key(run.plan.run, layout.TERMINAL), terminal)


def files_of(home: Home, run: str) -> dict[str, bytes]:
    keys = [info.key for info in home.store.list(home.release_key(run))]
    return {key: home.store.get(key) for key in keys}


def test_publishing_twice_finds_the_first_entry(mill: Mill) -> None:
    run = mill.checked(items(3))
    first = run.publish()
    assert run.publish() == first
    assert publish(run.home, run.plan, content_of(run), gates_of(run)) == first
    assert len(read_history(run.home).entries) == 1


def test_all_stages_of_a_published_run_can_be_repeated_and_change_nothing(mill: Mill) -> None:
    run = mill.checked(items(3))
    run.publish()
    before = files_of(run.home, run.plan.run)
    result = run.run()
    assert (result.number, result.computed, result.embedded) == (1, 3, 3)
    assert files_of(run.home, run.plan.run) == before
    assert len(read_history(run.home).entries) == 1


@pytest.mark.parametrize("stage", ["planned", "worked", "indexed", "checked", "sealed", "closed"])
def test_a_run_that_died_after_any_stage_is_found_and_finished_without_computing_again(
    mill: Mill, stage: str
) -> None:
    run = dead_after(stage, mill)
    again = mill.planned()
    assert again.resumed
    assert again.plan == run.plan
    commits = {info.key: info.etag for info in run.home.store.list(run.home.run_key(run.plan.run, "commits"))}
    result = mill.run()
    assert result.resumed
    assert (result.release, result.number, result.computed) == (run.plan.run, 1, 3)
    after = {info.key: info.etag for info in run.home.store.list(run.home.run_key(run.plan.run, "commits"))}
    assert commits.items() <= after.items()
    assert [entry.transaction for entry in read_history(run.home).entries] == [run.plan.run]
    assert mill.live().name == run.plan.run


def dead_after(stage: str, mill: Mill) -> PlannedRun:
    if stage in {"planned", "worked", "indexed"}:
        started: Callable[..., PlannedRun] = getattr(mill, stage)
        return started(items(3))
    run = mill.checked(items(3))
    if stage in {"sealed", "closed"}:
        sealed(run)
    if stage == "closed":
        write_terminal(run, 1)
    return run


def test_a_run_that_died_after_its_entry_is_published_and_its_hint_is_only_a_hint(mill: Mill) -> None:
    run = mill.checked(items(3))
    run.publish()
    run.home.store.delete(f"{run.home.pipeline}/HEAD")
    assert mill.live().name == run.plan.run
    assert list(open_plans(run.home)) == []
    run.home.store.put(f"{run.home.pipeline}/HEAD", b"99\n")
    assert mill.live().name == run.plan.run
    assert mill.run(items(4)).number == 2


def test_planning_that_died_before_its_document_leaves_nothing_that_counts(mill: Mill) -> None:
    run = mill.planned(items(3))
    run.home.store.delete(run.home.run_key(run.plan.run, layout.PLAN))
    again = mill.planned()
    assert not again.resumed
    assert again.plan.run != run.plan.run


def test_a_manifest_that_is_there_is_never_written_again(mill: Mill) -> None:
    run = mill.checked(items(3))
    manifest = sealed(run)
    assert sealed(run) == manifest
    run.publish()
    assert read_manifest(mill.live().folder) == manifest


def test_sealing_keeps_the_verdicts_that_were_sealed(mill: Mill) -> None:
    run = mill.checked(items(3))
    gates = run.check()
    sealed(run)
    assert run.check(accept=["churn"]) == gates


def test_of_two_runs_on_one_base_the_second_loses_and_plans_anew(mill: Mill, tmp_path: Path) -> None:
    slow = mill.checked(items(3))
    mill.settings = {"goldens": 8}  # another spec, so that it plans a run of its own
    fast = mill.planned(items(4))
    assert fast.plan.run != slow.plan.run
    mill.run()
    with pytest.raises(PublishLost, match="planned on release none, but release"):
        slow.publish()
    assert terminal_of(slow).outcome == "abandon"
    assert [release.number for release in read_history(slow.home).published()] == [1]
    assert mill.run(items(5)).number == 2


def test_a_run_that_another_closed_is_not_published(mill: Mill) -> None:
    run = mill.checked(items(3))
    abandon(run.home, run.plan.run, "the catalog changed since")
    with pytest.raises(PublishLost, match="was closed: the catalog changed since"):
        run.publish()
    assert read_history(run.home).live is None


def test_a_run_whose_number_was_taken_is_lost(mill: Mill) -> None:
    mill.run(items(2))
    mill.run(items(3))
    run = mill.checked(items(4))
    write_terminal(run, 3)
    append(run.home, read_history(run.home), "pin", run.plan.base.release if run.plan.base else "")
    with pytest.raises(PublishLost, match="closed: log entry 3 was taken"):
        run.publish()
    assert list(open_plans(run.home)) == []
    assert mill.run().number == 4


def test_closing_a_run_twice_keeps_the_first_word(mill: Mill) -> None:
    run = mill.planned(items(3))
    assert abandon(run.home, run.plan.run, "first").why == "first"
    assert abandon(run.home, run.plan.run, "second").why == "first"


def test_on_hold_a_run_is_built_and_checked_but_not_published_until_the_hold_is_lifted(mill: Mill) -> None:
    first = mill.run(items(2)).release
    mill.run(items(3))
    rollback(mill.home, first)
    assert mill.live().name == first
    held = mill.worked(items(4))
    with pytest.raises(Held, match=f"on hold since the rollback to {first}"):
        held.run()
    assert mill.live().name == first
    unhold(mill.home)
    result = mill.run()
    assert (result.release, result.resumed) == (held.plan.run, True)
    assert result.number == 5
    assert mill.live().number == 5


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "gone": Path.unlink,
    "shorter": lambda file: os.truncate(file, file.stat().st_size - 1),
    "one bit": flip,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", ["vectors", "items", "goldens", "quarantine"])
def test_a_candidate_with_a_damaged_file_does_not_go_live(mill: Mill, kind: str, damage: str) -> None:
    mill.run(items(2))
    run = mill.checked(items(3))
    folder = Path(run.home.store.url) / run.home.release_key(run.plan.run)
    file = max(
        (path for path in (folder / kind).rglob("*") if path.is_file()), key=lambda path: path.stat().st_mtime
    )
    file.chmod(0o644)
    DAMAGES[damage](file)
    with pytest.raises(ReleaseCorrupt, match=file.name) as caught:
        run.publish()
    assert caught.value.hint == "run again: it plans a new run"
    assert mill.live().number == 1
    assert mill.run().number == 2


def test_a_carried_file_that_vanished_from_the_candidate_is_noticed(mill: Mill) -> None:
    mill.run(items(10))
    run = mill.checked(items(11))
    old = next((mill.live().folder / "vectors").rglob("*.arrow")).name
    next((Path(run.home.store.url) / run.home.release_key(run.plan.run)).rglob(old)).unlink()
    with pytest.raises(ReleaseCorrupt, match=old):
        run.publish()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_sound_candidate_goes_live_whatever_became_of_its_bases_manifest(mill: Mill, damage: str) -> None:
    mill.run(items(10))
    run = mill.checked(items(11))
    DAMAGES[damage](mill.live().folder / layout.MANIFEST)
    assert run.publish().number == 2
    assert (mill.live().number, mill.live().content.embedded, mill.live().content.reused) == (2, 1, 10)


def test_damage_between_work_and_candidate_closes_the_run_and_the_next_computes_again(mill: Mill) -> None:
    mill.run(items(2))
    run = mill.worked(items(3))
    folder = Path(run.home.store.url) / run.home.release_key(run.plan.run)
    vectors = next((folder / "vectors").rglob("*.arrow"))
    vectors.chmod(0o644)
    flip(vectors)
    with pytest.raises(ReleaseCorrupt, match=f"{vectors.name}: its bytes are not those") as caught:
        run.index()
    assert caught.value.hint == "run again: it plans a new run"
    assert mill.live().number == 1
    result = mill.run()
    assert (result.resumed, result.computed, result.number) == (False, 1, 2)


def test_a_candidate_that_was_not_checked_is_not_published(mill: Mill) -> None:
    run = mill.indexed(items(3))
    with pytest.raises(GateFailed, match="check"):
        run.publish()


def test_a_candidate_of_unfinished_work_is_not_made(mill: Mill) -> None:
    run = mill.planned(items(3))
    with pytest.raises(ShardsMissing, match="1 of 1 shard is not done"):
        run.index()


def test_a_changed_catalog_makes_another_run_and_leaves_the_open_one_alone(mill: Mill) -> None:
    run = mill.worked(items(3))
    again = mill.planned(items(4))
    assert not again.resumed
    assert again.outlived == {run.plan.run: "the catalog changed since"}
    assert {plan.run for plan in open_plans(run.home)} == {again.plan.run, run.plan.run}


def test_what_is_published_first_closes_the_other(mill: Mill) -> None:
    run = mill.worked(items(3))
    other = mill.run(items(4))
    assert mill.planned(items(5)).outlived == {run.plan.run: "another release went live since"}
    assert terminal_of(run).outcome == "abandon"
    assert mill.live().name == other.release


def test_a_published_release_does_not_need_its_runs_folder(mill: Mill) -> None:
    mill.run(items(3))
    mill.run(items(4))
    shutil.rmtree(Path(mill.home.store.url) / "test" / "runs")
    assert mill.live().search(item="s3", k=1)[0].id == "s3"
    assert mill.run(items(5)).computed == 1


def test_a_check_that_began_before_the_release_was_sealed_does_not_touch_it(mill: Mill) -> None:
    """Two processes that finish one run: the slower one's verdicts come after the other's commit."""
    run = mill.checked(items(3))
    slower = run.check(accept=["churn"])
    run.publish()
    run.home.store.put(run.home.run_key(run.plan.run, layout.GATES), slower.to_bytes())
    verify(run.home, "1")
    assert run.check() == gates_of(run)
    verify(run.home, "1")


def test_an_assembler_that_comes_too_late_finds_the_candidate_and_closes_nothing(mill: Mill) -> None:
    """The faster one has compacted, and swept the vectors that the slower one is about to read."""
    mill.settings = {"compact_above": 0.0}
    mill.run(items(6))
    run = mill.worked(items(9))
    commits = read_commits(run.home, run.plan)
    content = run.index()
    assert content.compacted
    assert not run.home.exists(run.home.key(getattr(commits[0].vectors, "path", "")))
    prefix = run.home.release_key(run.plan.run, layout.CONTENT)
    hidden: dict[str, bool] = {}

    class Late(LocalStore):
        """Sees CONTENT only at the second look."""

        def head(self, key: str) -> ObjectInfo:
            if key == prefix and not hidden:
                hidden[key] = True
                raise ObjectMissing(key)
            return super().head(key)

    late = Home(Late(run.home.store.url), run.home.pipeline)
    assert assemble(late, run.plan, mill.live(), lambda _: None) == content
    assert runs.terminal_of(run.home, run.plan.run) is None
    assert run.run().number == 2


def test_a_worker_that_asks_again_after_a_collection_does_not_take_its_own_file_for_a_losers(
    mill: Mill,
) -> None:
    run = mill.checked(items(3))
    run.publish()
    collect(run.home, clock=lambda: datetime.now(UTC) + timedelta(days=100))
    (record,) = read_commits(run.home, run.plan)
    again = record.model_copy(update={"attempt": "another"})
    assert run.home.create(run.home.run_key(run.plan.run, "commits", "00000.json"), again) == record


def test_a_run_and_its_pipeline_are_shown_in_a_line(mill: Mill) -> None:
    run = mill.planned(items(3))
    assert repr(run) == f"<PlannedRun {run.plan.run} of 'test': 3 items, 3 vectors to compute>"
    assert repr(mill.open()) == f"<Pipeline 'test' in {mill.root}>"
