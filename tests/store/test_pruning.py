"""The cache of remote stores stays near its limit, and loses nothing that anybody could miss."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from embedmill.errors import SpecError
from embedmill.store import fetch
from embedmill.store.memory import MemoryStore
from embedmill.store.pruning import prune

DAY_S = 86_400.0
KB = 1000


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own, of 3 KB."""
    monkeypatch.setenv("EMBEDMILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("EMBEDMILL_CACHE_BYTES", str(3 * KB))
    return tmp_path / "cache"


@pytest.fixture
def store() -> MemoryStore:
    """Five objects of 1 KB."""
    store = MemoryStore()
    for name in "abcde":
        store.put(name, name.encode() * KB)
    return store


def fetched(store: MemoryStore, cache: Path, names: str = "abcde") -> dict[str, Path]:
    """Files that were asked for two days ago, one second after the other."""
    files = {name: fetch(store, name) for name in names}
    for number, file in enumerate(files.values()):
        os.utime(file, (time.time() - 2 * DAY_S + number, file.stat().st_mtime))
    (cache / "pruned").unlink()
    return files


def left(files: dict[str, Path]) -> str:
    return "".join(name for name, file in files.items() if file.exists())


def test_what_was_asked_for_longest_ago_goes_first(store: MemoryStore, cache: Path) -> None:
    files = fetched(store, cache)
    fetch(store, "a")
    prune(cache, time.time() + 100)
    assert left(files) == "ade"
    assert fetch(store, "b").read_bytes() == b"b" * KB


def test_adding_a_file_prunes(store: MemoryStore, cache: Path) -> None:
    files = fetched(store, cache, "abcd")
    fetch(store, "e")
    assert left(files) == "cd"


def test_asking_leaves_the_time_of_change_alone_which_stamps_of_releases_hold(
    store: MemoryStore, cache: Path
) -> None:
    file = fetched(store, cache)["a"]
    before = file.stat().st_mtime_ns
    assert fetch(store, "a") == file
    assert file.stat().st_mtime_ns == before


def test_what_was_asked_for_within_a_day_stays_however_large_it_is(store: MemoryStore, cache: Path) -> None:
    files = {name: fetch(store, name) for name in "abcde"}
    prune(cache, time.time() + DAY_S / 2)
    assert left(files) == "abcde"
    prune(cache, time.time() + 2 * DAY_S)
    assert len(left(files)) == 3


def test_what_a_folder_of_a_release_has_a_link_to_stays(store: MemoryStore, cache: Path) -> None:
    files = fetched(store, cache)
    os.link(files["a"], cache / "linked")
    prune(cache)
    assert left(files) == "ade"


def test_both_names_of_a_file_go_at_once_and_count_once(store: MemoryStore, cache: Path) -> None:
    files = fetched(store, cache)
    second = cache / "contents" / "ab" / "abcd"
    second.parent.mkdir(parents=True)
    os.link(files["a"], second)
    prune(cache)
    assert (left(files), second.exists()) == ("cde", False)


def test_who_has_a_file_open_goes_on_reading_it(store: MemoryStore, cache: Path) -> None:
    files = fetched(store, cache)
    with files["a"].open("rb") as stream:
        prune(cache)
        assert left(files) == "cde"
        assert stream.read() == b"a" * KB


def test_many_may_prune_at_once(store: MemoryStore, cache: Path) -> None:
    files = fetched(store, cache)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: prune(cache, time.time() + 100 * number), range(8)))
    assert left(files) == "cde"


def test_it_is_not_looked_at_again_within_a_minute(store: MemoryStore, cache: Path) -> None:
    prune(cache.parent)
    files = fetched(store, cache)
    (cache / "pruned").touch()
    prune(cache, time.time() + 30)
    assert left(files) == "abcde"
    prune(cache, time.time() + 90)
    assert left(files) == "cde"


def test_a_limit_that_is_no_number_is_refused(
    store: MemoryStore, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched(store, cache)
    monkeypatch.setenv("EMBEDMILL_CACHE_BYTES", "20 GiB")
    with pytest.raises(SpecError, match="EMBEDMILL_CACHE_BYTES=20 GiB: expected a number of bytes"):
        prune(cache)
