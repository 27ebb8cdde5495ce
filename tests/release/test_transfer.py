"""Copying releases to other stores: whole, verified, finished by a second call, published only on wish."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.support.mill import Mill, items
from tests.support.upkeep import (
    Crashed,
    at_call_of,
    at_creation_of,
    crash,
    in_days,
    orphan_share,
    sizes,
    watched,
)

from embedmill import Release
from embedmill.errors import Held, PublishError, PublishLost, ReleaseCorrupt, ReleaseMissing
from embedmill.release.admin import pin, rollback, verify
from embedmill.release.collect import Policy, collect
from embedmill.release.layout import CONTENT, MANIFEST, PLAN, Home
from embedmill.release.log import read_history
from embedmill.release.runs import abandon
from embedmill.release.transfer import copy_release
from embedmill.store import open_store
from embedmill.store.local import LocalStore
from embedmill.types import Progress

KINDS = ["memory", "local"]


@pytest.fixture(params=KINDS)
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    """The pipeline's folder in another store."""
    url = f"memory://{tmp_path.name}-there" if request.param == "memory" else str(tmp_path / "there")
    return Home(open_store(url), "test")


@pytest.mark.parametrize("source", KINDS)
def test_a_copy_opens_there_with_all_that_was_in_it(mill: Mill, target: Home, source: str) -> None:
    if source == "memory":
        mill.settings["store"] = f"memory://{mill.root.name}-here"
    mill.run(items(8))
    name = mill.run(items(9)).release
    report = copy_release(mill.home, "2", target)
    assert (report.release, report.url, report.number) == (name, f"{target.url}/releases/{name}", None)
    assert (report.copied, report.copied_bytes) == (report.files, report.size_bytes)
    release, original = Release.open(report.url), mill.live()
    assert (release.name, release.number) == (name, None)
    assert release.content == original.content
    assert release.search("item 3", k=3) == original.search("item 3", k=3)
    here = {key for key in sizes(mill.home) if key.startswith(mill.home.release_key(name))}
    assert set(sizes(target)) == here


def test_a_second_call_finds_all_there_and_copies_nothing(mill: Mill, target: Home) -> None:
    mill.run(items(8))
    copy_release(mill.home, "1", target)
    before = sizes(target)
    report = copy_release(mill.home, "1", target)
    assert (report.copied, report.copied_bytes) == (0, 0)
    assert sizes(target) == before


def test_killed_at_any_call_the_next_one_finishes_and_no_half_copy_opens(mill: Mill, tmp_path: Path) -> None:
    name = mill.run(items(8)).release
    whole = Home(open_store(f"memory://{tmp_path.name}"), "test")
    files = copy_release(mill.home, "1", whole).files + 1
    for number in range(files):
        target = Home(LocalStore(tmp_path / f"there-{number}"), "test")
        dying = watched(target, before=at_call_of("put_if_absent", "", crash, number=number))
        with pytest.raises(Crashed):
            copy_release(mill.home, "1", dying)
        assert len(sizes(target)) == number
        with pytest.raises(ReleaseMissing):
            Release.open(f"{target.url}/releases/{name}")
        assert copy_release(mill.home, "1", target).copied == files - 1 - number
        assert sizes(target) == sizes(whole)


def test_the_manifest_goes_last_and_the_content_first(mill: Mill, target: Home) -> None:
    name = mill.run(items(8)).release
    created: list[str] = []
    told = watched(target, before=lambda method, key: created.append(key) if "put" in method else None)
    copy_release(mill.home, "1", told)
    assert created[0] == target.release_key(name, CONTENT)
    assert created[-1] == target.release_key(name, MANIFEST)


def test_progress_counts_the_bytes(mill: Mill, target: Home) -> None:
    mill.run(items(8))
    told: list[Progress] = []
    report = copy_release(mill.home, "1", target, on_progress=told.append)
    done = [progress.done for progress in told]
    assert done == sorted(done)
    assert {(progress.total, progress.unit) for progress in told} == {(report.size_bytes, "bytes")}
    assert done[-1] == report.size_bytes


# What is refused


def test_damage_here_is_found_before_it_is_copied(mill: Mill, target: Home) -> None:
    mill.run(items(8))
    release = mill.live()
    file = release.folder / release.content.items[0].path
    file.chmod(0o644)
    file.write_bytes(file.read_bytes()[:-1] + b"\xff")
    with pytest.raises(ReleaseCorrupt, match=r"items/part-00000.*not those that were published"):
        copy_release(mill.home, "1", target)
    assert not target.exists(target.release_key(release.name, release.content.items[0].path))
    assert not target.exists(target.release_key(release.name, MANIFEST))


def test_damage_there_is_found_by_the_next_call(mill: Mill, target: Home) -> None:
    name = mill.run(items(8)).release
    copy_release(mill.home, "1", target)
    key = target.release_key(name, "report.html")
    target.store.put(key, b"x" + target.store.get(key)[1:])
    with pytest.raises(ReleaseCorrupt, match=r"report\.html: its bytes are not"):
        copy_release(mill.home, "1", target)


@pytest.mark.parametrize("file", [CONTENT, MANIFEST])
def test_another_release_under_the_name_is_refused_and_left(mill: Mill, target: Home, file: str) -> None:
    name = mill.run(items(8)).release
    target.store.put(target.release_key(name, file), b"another")
    with pytest.raises(PublishError, match="another release lies there"):
        copy_release(mill.home, "1", target)
    assert sizes(target) == {target.release_key(name, file): 7}


def test_a_run_of_that_name_there_is_refused(mill: Mill, target: Home) -> None:
    name = mill.run(items(8)).release
    plan = mill.home.store.get(mill.home.run_key(name, PLAN))
    target.store.put(target.run_key(name, PLAN), plan)
    with pytest.raises(PublishError, match=r"has a run .* of its own that was not published"):
        copy_release(mill.home, "1", target)
    abandon(target, name, "given up")
    target.store.delete(target.run_key(name, PLAN))
    with pytest.raises(PublishError, match=r"has a run .* of its own that was not published"):
        copy_release(mill.home, "1", target)


def test_only_what_is_published_here_and_not_retired_is_copied(mill: Mill, target: Home) -> None:
    mill.run(items(8))
    mill.run(items(9))
    with pytest.raises(ReleaseMissing):
        copy_release(mill.home, "7", target)
    gone = at_creation_of(CONTENT, lambda: collect(mill.home, Policy(keep=1)))
    with pytest.raises(ReleaseMissing, match="was retired"):
        copy_release(mill.home, "1", watched(target, before=gone))
    with pytest.raises(ReleaseMissing, match="was retired"):
        copy_release(mill.home, "1", target)


def test_a_manifest_that_is_not_the_logs_is_not_copied(mill: Mill, target: Home) -> None:
    first, second = mill.run(items(8)), mill.run(items(9))
    folders = [Path(mill.home.store.url) / mill.home.release_key(run.release) for run in (first, second)]
    shutil.rmtree(folders[0])
    shutil.copytree(folders[1], folders[0])
    with pytest.raises(ReleaseCorrupt, match="is not the manifest that the log names"):
        copy_release(mill.home, "1", target)


# Publishing there


def test_with_a_log_entry_the_copy_is_live_there_and_the_next_run_builds_on_it(
    mill: Mill, target: Home
) -> None:
    mill.run(items(8))
    pin(mill.home, "1")
    name = mill.run(items(9)).release
    report = copy_release(mill.home, name, target, into_log=True, note="promoted")
    (entry,) = read_history(target).entries
    assert (report.number, entry.release, entry.note, entry.transaction) == (1, name, "promoted", name)
    verify(target, "1")
    assert copy_release(mill.home, name, target, into_log=True).number == 1
    mill.settings["store"] = target.store.url
    assert mill.live().name == name
    result = mill.run(items(10))
    assert (result.number, result.reused, result.embedded) == (2, 9, 1)


def test_publishing_respects_a_hold_and_what_was_published_before(mill: Mill, target: Home) -> None:
    for count in (8, 9, 10):
        mill.run(items(count))
    for number in ("1", "2"):
        copy_release(mill.home, number, target, into_log=True)
    with pytest.raises(PublishError, match="was published there before"):
        copy_release(mill.home, "1", target, into_log=True)
    rollback(target, "1")
    before = sizes(target)
    with pytest.raises(Held, match="on hold since the rollback"):
        copy_release(mill.home, "3", target, into_log=True)
    assert sizes(target) == before
    assert copy_release(mill.home, "3", target).number is None


def test_a_log_that_moved_on_meanwhile_gets_no_entry_until_the_next_call(mill: Mill, target: Home) -> None:
    mill.run(items(8))
    name = mill.run(items(9)).release
    copy_release(mill.home, "1", target, into_log=True)
    moved = at_creation_of(MANIFEST, lambda: pin(target, "1"))
    with pytest.raises(PublishLost, match="log entry 2 was taken"):
        copy_release(mill.home, "2", watched(target, before=moved), into_log=True)
    assert [entry.kind for entry in read_history(target).entries] == ["publish", "pin"]
    report = copy_release(mill.home, "2", target, into_log=True)
    assert (report.copied, report.number) == (0, 3)
    assert read_history(target).live is not None
    verify(target, name)


def test_what_was_retired_there_does_not_come_back(mill: Mill, target: Home) -> None:
    mill.run(items(8))
    name = mill.run(items(9)).release
    for number in ("1", "2"):
        copy_release(mill.home, number, target, into_log=True)
    collect(target, Policy(keep=1))
    with pytest.raises(PublishError, match="was retired by log entry 3"):
        copy_release(mill.home, "1", target)
    verify(target, name)


# Beside a collector there


def test_a_collector_there_leaves_copies_alone_finished_or_not(mill: Mill, target: Home) -> None:
    name = mill.run(items(8)).release
    mill.run(items(9))
    copy_release(mill.home, "2", target, into_log=True)
    for number in range(1, 5):
        dying = watched(target, before=at_call_of("put_if_absent", "", crash, number=number))
        with pytest.raises(Crashed):
            copy_release(mill.home, "1", dying)
        before = sizes(target)
        report = collect(target, Policy(keep=1), clock=in_days(1000))
        assert [(each.run, each.why) for each in report.left] == [(name, "copied here, not in the log")]
        assert sizes(target) == before
    copy_release(mill.home, "1", target)
    collect(target, Policy(keep=1), clock=in_days(1000))
    assert Release.open(f"{target.url}/releases/{name}").name == name


def test_a_published_copy_is_retired_there_like_any_other(mill: Mill, target: Home) -> None:
    for count in (8, 9):
        mill.run(items(count))
    for number in ("1", "2"):
        copy_release(mill.home, number, target, into_log=True)
    assert [name.number for name in collect(target, Policy(keep=1)).retired] == [1]
    assert orphan_share(target) == 0
