"""Fetching a release into a folder: whole or no release at all, and never half of another."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.models import tiny_text_package
from tests.support.mill import Mill, items

from embedmill.errors import (
    LogGap,
    ReleaseCorrupt,
    ReleaseIncompatible,
    ReleaseMissing,
    SpecError,
    StoreFull,
    StoreUnavailable,
)
from embedmill.release.admin import rollback
from embedmill.release.collect import Policy, collect
from embedmill.release.fetch import WORK, fetch_release
from embedmill.release.integrity import FETCHED
from embedmill.release.layout import CONTENT, MANIFEST, Home
from embedmill.release.pieces import PIECE_BYTES
from embedmill.release.reader import Release
from embedmill.release.source import Source, source_at, source_in
from embedmill.release.transfer import copy_release
from embedmill.store import join_key, open_store
from embedmill.store.faults import At, Refused, Script
from embedmill.store.faulty import FaultyStore
from embedmill.types import Progress
from embedmill.world import World


@pytest.fixture
def remote(mill: Mill, tmp_path: Path) -> Mill:
    """A pipeline whose store has no files, with one release."""
    mill.settings["store"] = f"memory://{tmp_path.name}"
    mill.run(items(20))
    return mill


@pytest.fixture
def to(tmp_path: Path) -> Path:
    return tmp_path / "fetched"


def data_file(source: Source) -> str:
    """The path of a file with vectors."""
    return next(entry.path for entry in source.manifest.files if entry.path.startswith("vectors/"))


def damage(mill: Mill, source: Source, data: bytes) -> str:
    key = join_key(source.prefix, data_file(source))
    mill.home.store.put(key, data)
    return key


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_fetched_folder_is_the_release_with_its_number_and_without_leftovers(
    remote: Mill, to: Path
) -> None:
    remote.run(items(22))
    source = source_in(remote.home)
    report = fetch_release(source, to)
    assert (report.release, report.number, report.fetched) == (source.release, 2, len(source.manifest.files))
    assert report.fetched_bytes == report.size_bytes == source.size_bytes
    assert files(to) == {entry.path for entry in source.manifest.files} | {MANIFEST, FETCHED}
    found = Release.open(to)
    assert (found.name, found.number) == (source.release, 2)
    mine, theirs = found.search("item 3"), remote.live().search("item 3")
    assert [(hit.id, hit.score) for hit in mine] == [(hit.id, hit.score) for hit in theirs]
    assert all((to / path).stat().st_mode & 0o222 == 0 for path in files(to) - {MANIFEST, FETCHED})


@pytest.mark.parametrize("name", ["live", "1", None])
def test_the_release_is_the_live_one_or_the_named_one(remote: Mill, to: Path, name: str | None) -> None:
    first = remote.home
    remote.run(items(22))
    rollback(first, "1")
    source = source_at(remote.home.url, name)
    assert fetch_release(source, to).number == 1


def test_a_fetched_folder_can_be_fetched_from_and_keeps_its_number(remote: Mill, to: Path) -> None:
    fetch_release(source_in(remote.home), to)
    report = fetch_release(source_at(str(to)), to.with_name("again"))
    assert report.number == 1
    assert Release.open(to.with_name("again")).number == 1


def test_a_copy_without_a_log_is_fetched_by_its_url_and_has_no_number(remote: Mill, to: Path) -> None:
    target = Home(open_store(f"memory://copies-{to.parent.name}"), "test")
    copy_release(remote.home, "1", target)
    name = remote.live().name
    report = fetch_release(source_at(f"{target.url}/releases/{name}"), to)
    assert report.number is None
    assert Release.open(to).number is None


def test_what_is_there_with_the_right_bytes_is_not_fetched_again(remote: Mill, to: Path) -> None:
    source = source_in(remote.home)
    fetch_release(source, to)
    again = fetch_release(source, to)
    assert (again.fetched, again.fetched_bytes) == (0, 0)
    lost = to / data_file(source)
    size = lost.stat().st_size
    lost.unlink()
    third = fetch_release(source, to)
    assert (third.fetched, third.fetched_bytes) == (1, size)


def test_a_file_that_was_damaged_in_the_folder_is_fetched_again(remote: Mill, to: Path) -> None:
    source = source_in(remote.home)
    fetch_release(source, to)
    damaged = to / data_file(source)
    damaged.chmod(0o644)
    damaged.write_bytes(bytes(damaged.stat().st_size))
    assert fetch_release(source, to).fetched == 1
    Release.open(to)


def test_an_interrupted_fetch_is_no_release_and_goes_on_with_what_it_has(remote: Mill, to: Path) -> None:
    source = source_in(remote.home)
    faulty = FaultyStore(source.store, Script(At(Refused(), "get", data_file(source).join("*" * 2))))
    broken = Source(faulty, source.prefix, source.manifest, source.manifest_bytes, source.content, 1)
    with pytest.raises(StoreUnavailable):
        fetch_release(broken, to)
    with pytest.raises(ReleaseMissing, match=MANIFEST):
        Release.open(to)
    left = files(to) - {path for path in files(to) if path.startswith(WORK)}
    assert left, "nothing came before the store failed"
    report = fetch_release(source, to)
    assert report.fetched == len(source.manifest.files) - len(left)
    assert Release.open(to).name == source.release


def test_pieces_that_a_dead_process_left_are_not_believed_where_the_file_is_wrong(
    remote: Mill, to: Path
) -> None:
    source = source_in(remote.home)
    path = data_file(source)
    (number,) = [n for n, entry in enumerate(source.manifest.files) if entry.path == path]
    entry = source.manifest.files[number]
    work = to / WORK
    work.mkdir(parents=True)
    (work / MANIFEST).write_bytes(source.manifest_bytes)
    stem = f"{number:05d}-{entry.sha256[:16]}"
    (work / f"{stem}.part").write_bytes(bytes(entry.size_bytes))
    (work / f"{stem}.pieces").write_bytes(b"0\n")
    assert fetch_release(source, to).fetched == len(source.manifest.files)
    Release.open(to)


def test_a_journal_whose_last_line_was_being_written_counts_without_it(tmp_path: Path) -> None:
    from embedmill.release.pieces import PartialFile
    from embedmill.spec.documents import FileEntry

    entry = FileEntry(path="a", size_bytes=3 * PIECE_BYTES, sha256="ab" * 32)
    partial = PartialFile(entry, tmp_path / "00000-abab", tmp_path / "a")
    partial.begin()
    partial.journal.write_bytes(b"0\n17\nnonsense\n%d" % PIECE_BYTES)
    again = PartialFile(entry, tmp_path / "00000-abab", tmp_path / "a")
    assert again.kept == {0}
    assert again.lacking_bytes == 2 * PIECE_BYTES


@pytest.mark.parametrize("data", [b"short", None])
def test_an_object_with_other_bytes_is_refused_by_name(remote: Mill, to: Path, data: bytes | None) -> None:
    source = source_in(remote.home)
    size = next(entry.size_bytes for entry in source.manifest.files if entry.path == data_file(source))
    key = damage(remote, source, bytes(size) if data is None else data)
    with pytest.raises(ReleaseCorrupt, match=key):
        fetch_release(source, to)
    with pytest.raises(ReleaseMissing):
        Release.open(to)


def test_an_object_that_is_missing_is_refused_by_its_name(remote: Mill, to: Path) -> None:
    source = source_in(remote.home)
    remote.home.store.delete(join_key(source.prefix, data_file(source)))
    with pytest.raises(ReleaseCorrupt, match=f"{data_file(source)}: is missing"):
        fetch_release(source, to)


def test_a_release_that_is_retired_meanwhile_is_named_as_such(remote: Mill, to: Path) -> None:
    source = source_in(remote.home)
    remote.run(items(24))
    collect(remote.home, Policy(keep=1))
    with pytest.raises(ReleaseMissing, match="was retired"):
        fetch_release(source, to)


def test_a_manifest_that_is_not_the_one_of_the_log_is_refused(remote: Mill) -> None:
    first = source_in(remote.home)
    remote.run(items(24))
    other = source_in(remote.home)
    remote.home.store.put(join_key(other.prefix, MANIFEST), first.manifest_bytes)
    with pytest.raises(ReleaseCorrupt, match="is not the manifest that the log names"):
        source_in(remote.home)


def test_content_with_other_bytes_is_refused(remote: Mill) -> None:
    source = source_in(remote.home)
    key = join_key(source.prefix, CONTENT)
    remote.home.store.put(key, remote.home.store.get(key).replace(b"float32", b"float32 "))
    with pytest.raises(ReleaseCorrupt):
        source_in(remote.home)


def test_an_empty_release_is_an_error(remote: Mill, to: Path) -> None:
    remote.run([{"sku": "s1", "title": None, "category": None, "price": 1.0}])
    with pytest.raises(ReleaseIncompatible, match="is empty"):
        fetch_release(source_in(remote.home), to)
    assert not to.exists()


@pytest.mark.parametrize("url", ["releases/none", ""])
def test_where_there_is_no_release_it_says_so(mill: Mill, url: str) -> None:
    mill.settings["store"] = "./empty"
    home = mill.home
    with pytest.raises(ReleaseMissing):
        source_at(f"{home.url}/{url}".rstrip("/"))


@pytest.mark.parametrize("prepare", ["a file", "something else", "another release", "half of another"])
def test_a_folder_with_something_else_in_it_is_left_alone(remote: Mill, to: Path, prepare: str) -> None:
    first = source_in(remote.home)
    remote.run(items(24))
    if prepare == "a file":
        to.write_text("mine")
    elif prepare == "something else":
        to.mkdir()
        (to / "notes.txt").write_text("mine")
    else:
        fetch_release(first, to)
        if prepare.startswith("half"):
            (to / WORK).mkdir()
            (to / MANIFEST).rename(to / WORK / MANIFEST)
    before = files(to)
    with pytest.raises(SpecError):
        fetch_release(source_in(remote.home), to)
    assert files(to) == before


def test_a_mount_point_that_is_empty_but_for_lost_and_found_is_taken(remote: Mill, to: Path) -> None:
    (to / "lost+found").mkdir(parents=True)
    fetch_release(source_in(remote.home), to)
    Release.open(to)


def test_a_marker_of_another_release_is_refused_at_opening(remote: Mill, to: Path) -> None:
    fetch_release(source_in(remote.home), to)
    remote.run(items(24))
    fetch_release(source_in(remote.home), to.with_name("other"))
    shutil.copy(to / FETCHED, to.with_name("other") / FETCHED)
    with pytest.raises(ReleaseCorrupt, match=FETCHED):
        Release.open(to.with_name("other"))


def test_progress_counts_bytes_to_the_whole_release(remote: Mill, to: Path) -> None:
    source, told = source_in(remote.home), list[Progress]()
    fetch_release(source, to, on_progress=told.append)
    done = [progress.done for progress in told]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, source.size_bytes)
    assert {(progress.total, progress.unit) for progress in told} == {(source.size_bytes, "bytes")}


def test_a_disk_that_others_fill_meanwhile_ends_the_fetch_and_it_goes_on_when_there_is_room(
    mill: Mill, small_disk: Path
) -> None:
    mill.settings["model"] = str(tiny_text_package(mill.root / "wide", dimension=256))
    mill.run(items(600))
    source, to, other = source_in(mill.home), small_disk / "release", small_disk / "other"
    with pytest.raises(StoreFull, match=r"no space left.* it goes on where it ended"):
        fetch_release(source, to, on_progress=lambda _: fill(other, 1_400_000))
    other.unlink()
    fetch_release(source, to)
    assert Release.open(to).name == source.release


def fill(file: Path, size: int) -> None:
    if not file.exists():
        file.write_bytes(bytes(size))


@pytest.mark.parametrize("settings", [{}, {"store": "memory://log-gap"}], ids=["folder", "bucket"])
def test_a_release_that_its_own_url_names_is_opened_though_the_log_lacks_an_entry(
    mill: Mill, to: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str]
) -> None:
    slept_s: list[float] = []
    monkeypatch.setattr(World, "sleep", lambda _, seconds: slept_s.append(seconds))
    monkeypatch.setenv("EMBEDMILL_CACHE", str(to.parent / "cache"))
    mill.settings |= settings
    runs = [mill.run(items(20 + count)) for count in range(3)]
    mill.home.store.delete(mill.home.log_key(2))
    url = f"{mill.home.url}/releases/{runs[2].release}"
    with pytest.raises(LogGap):
        source_at(mill.home.url)
    assert slept_s
    slept_s.clear()
    source = source_at(url)
    assert (source.release, source.number) == (runs[2].release, None)
    fetch_release(source, to)
    for place in (url, to):
        found = Release.open(place)
        assert (found.name, found.number, len(found.search("item 3"))) == (runs[2].release, None, 10)
    assert slept_s == []  # an entry that does not matter is not waited for
