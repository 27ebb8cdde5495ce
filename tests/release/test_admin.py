"""Rolling back, lifting the hold, verifying, and what is told of releases."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from tests.support.mill import Mill, items

from embedmill.errors import Held, PublishError, ReleaseCorrupt, ReleaseMissing
from embedmill.release.admin import rollback, unhold, verify
from embedmill.release.describe import describe_release, list_releases, pair_to_compare, run_states
from embedmill.release.layout import CONTENT, MANIFEST
from embedmill.release.log import append, read_history
from embedmill.spec.documents import Content


def flip_a_bit(file: Path) -> None:
    """Damage that keeps the file's size and time."""
    stat = file.stat()
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.chmod(0o644)
    file.write_bytes(data)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_a_rollback_makes_an_earlier_release_live_and_holds_publishing(mill: Mill) -> None:
    first = mill.run(items(8))
    mill.run(items(9))
    entry = rollback(mill.home, "1", note="bad prices")
    assert (entry.kind, entry.release, entry.number, entry.note) == (
        "rollback",
        first.release,
        3,
        "bad prices",
    )
    assert mill.live().name == first.release
    with pytest.raises(Held, match="on hold since the rollback"):
        mill.run(items(10))
    assert mill.live().name == first.release


def test_lifting_the_hold_lets_runs_publish_again(mill: Mill) -> None:
    mill.run(items(8))
    mill.run(items(9))
    rollback(mill.home, "1")
    entry = unhold(mill.home)
    assert entry is not None
    assert entry.number == 4
    assert unhold(mill.home) is None
    assert mill.run(items(10)).number == 5


def test_nobody_rolls_back_to_the_live_release_or_to_none(mill: Mill) -> None:
    mill.run(items(8))
    with pytest.raises(PublishError, match="live already"):
        rollback(mill.home, "1")
    with pytest.raises(ReleaseMissing):
        rollback(mill.home, "2")
    assert read_history(mill.home).next_number == 2


def test_nobody_rolls_back_to_a_retired_release(mill: Mill) -> None:
    first = mill.run(items(8))
    mill.run(items(9))
    append(mill.home, read_history(mill.home), "retire", first.release)
    with pytest.raises(ReleaseMissing):
        rollback(mill.home, "1")


def test_nobody_rolls_back_to_a_damaged_release(mill: Mill) -> None:
    mill.run(items(8))
    folder = mill.live().folder
    newer = mill.run(items(9))
    flip_a_bit(folder / "report.html")
    with pytest.raises(ReleaseCorrupt, match=r"report\.html"):
        rollback(mill.home, "1")
    assert mill.live().name == newer.release
    assert read_history(mill.home).hold is None


def test_verify_finds_damage_that_keeps_size_and_time(mill: Mill) -> None:
    mill.run(items(8))
    release = mill.live()
    assert verify(mill.home, "1").release == release.name
    flip_a_bit(release.folder / release.content.items[0].path)
    with pytest.raises(ReleaseCorrupt, match="items/part-00000"):
        verify(mill.home, "1")


def test_verify_compares_the_manifest_with_the_log(mill: Mill) -> None:
    first, second = mill.run(items(8)), mill.run(items(9))
    folders = [mill.home.store.url + f"/test/releases/{run.release}" for run in (first, second)]
    shutil.rmtree(folders[0])
    shutil.copytree(folders[1], folders[0])
    with pytest.raises(ReleaseCorrupt, match="is not the manifest that log entry 1 names"):
        verify(mill.home, "1")


def test_the_list_says_which_release_is_live(mill: Mill) -> None:
    first, second = mill.run(items(8)), mill.run(items(9))
    listed = list_releases(mill.home)
    assert [(each.release, each.number, each.items, each.live) for each in listed] == [
        (first.release, 1, 8, False),
        (second.release, 2, 9, True),
    ]
    rollback(mill.home, first.release)
    assert [each.live for each in list_releases(mill.home)] == [True, False]


def test_the_list_shows_releases_whose_documents_are_gone_or_damaged(mill: Mill) -> None:
    runs = [mill.run(items(count)) for count in (8, 9, 10, 11, 12)]
    folders = [Path(mill.home.store.url) / "test/releases" / run.release for run in runs]
    shutil.rmtree(folders[0])
    (folders[1] / CONTENT).chmod(0o644)
    (folders[1] / CONTENT).write_bytes(b"{")
    (folders[2] / MANIFEST).unlink()
    (folders[3] / CONTENT).chmod(0o644)
    (folders[3] / CONTENT).write_bytes(b'{"schema": "content/999"}')
    assert [(each.number, each.items, each.trouble) for each in list_releases(mill.home)] == [
        (1, None, "has no CONTENT.json"),
        (2, None, "its CONTENT.json is damaged"),
        (3, 10, "has no MANIFEST.json"),
        (4, None, "this version of Embedmill cannot read its CONTENT.json (content/999)"),
        (5, 12, ""),
    ]


def test_a_release_tells_its_counts_segments_and_quarantine(mill: Mill) -> None:
    mill.run([*items(8), items(1)[0]])
    mill.run([*items(9), items(1)[0]])
    report = describe_release(mill.home, None, quarantined=1)
    assert (report.number, report.live, report.items) == (2, True, 8)
    assert [segment.rows for segment in report.segments] == [7, 1]
    assert report.quarantine == {"duplicate-id": 2}
    (item,) = report.quarantined
    assert (item.id, item.reason) == ("s0", "duplicate-id")
    assert report.gates.passed


def test_the_live_release_is_compared_with_the_one_before(mill: Mill) -> None:
    for count in (8, 9, 10):
        mill.run(items(count))
    assert [name.number for name in pair_to_compare(mill.home, None, None)] == [2, 3]
    assert [name.number for name in pair_to_compare(mill.home, "1", None)] == [1, 3]
    assert [name.number for name in pair_to_compare(mill.home, "1", "2")] == [1, 2]


def test_after_a_rollback_the_next_release_is_compared_with_the_one_it_was_built_on(mill: Mill) -> None:
    for count in (8, 9):
        mill.run(items(count))
    rollback(mill.home, "1")
    unhold(mill.home)
    release = mill.run(items(10))
    pair = pair_to_compare(mill.home, None, None)
    assert [name.number for name in pair] == [1, 5]
    assert pair[0] == mill.home.read(Content, mill.home.release_key(release.release, CONTENT)).base
    append(mill.home, read_history(mill.home), "retire", pair[0].release)
    assert [name.number for name in pair_to_compare(mill.home, None, None)] == [2, 5]


def test_open_runs_tell_how_far_they_are(mill: Mill) -> None:
    mill.settings["work"] = {"shard_rows": 16}
    planned = mill.planned(items(40))
    (state,) = run_states(mill.home, mill.open().outdated)
    assert (state.run, state.shards_done, state.vectors, state.vectors_done) == (planned.plan.run, 0, 40, 0)
    mill.worked()
    (state,) = run_states(mill.home, mill.open().outdated)
    assert (state.shards_done, state.vectors_done) == (state.shards, 40)
