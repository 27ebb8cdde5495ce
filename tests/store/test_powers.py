"""Stores around others have the optional powers of those inside, and no others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.store.broken_stores import Over

from embedmill.errors import ObjectExists, ObjectMissing, StoreUnavailable
from embedmill.store import (
    Adopts,
    Copies,
    Folders,
    Leftovers,
    LocalPaths,
    ObjectInfo,
    Store,
    Unfinished,
    folder_names,
)
from embedmill.store.base import Downloads, Ranges
from embedmill.store.faults import AnswerLost, At, Refused, Script
from embedmill.store.faulty import FaultyStore, VirtualClock
from embedmill.store.local import LocalStore
from embedmill.store.memory import MemoryStore
from embedmill.store.retrying import RetryingStore


class Downloading(Over):
    """One that writes to files, half of one before it fails."""

    def __init__(self, fails: int = 0) -> None:
        super().__init__()
        self.fails = fails

    def get(self, key: str) -> bytes:
        raise AssertionError("read into memory")

    def download(self, key: str, file: Path) -> ObjectInfo:
        data = self.inner.get(key)
        with file.open("xb") as out:
            self.fails -= 1
            if self.fails >= 0:
                out.write(data[: len(data) // 2])
                raise StoreUnavailable(f"{key}: broke off")
            out.write(data)
        return self.inner.head(key)

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        self.fails -= 1
        if self.fails >= 0:
            raise StoreUnavailable(f"{key}: broke off")
        return self.inner.get(key)[start:stop]


WRAPPERS: list[Callable[[Store], Store]] = [FaultyStore, RetryingStore]


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_a_wrapped_store_has_the_optional_powers_of_the_one_inside_and_no_others(
    wrap: Callable[[Store], Store], tmp_path: Path
) -> None:
    for inner in (Over(), MemoryStore(), LocalStore(tmp_path), Downloading()):
        store = wrap(wrap(inner))
        assert store.url == inner.url
        assert isinstance(store, Copies) == isinstance(inner, Copies)
        assert isinstance(store, Adopts) == isinstance(inner, Adopts)
        assert isinstance(store, LocalPaths) == isinstance(inner, LocalPaths)
        assert isinstance(store, Downloads) == isinstance(inner, Downloads)
        assert isinstance(store, Ranges) == isinstance(inner, Ranges)
        assert isinstance(store, Folders) == isinstance(inner, Folders)
        assert isinstance(store, Unfinished) == isinstance(inner, Unfinished)


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_the_powers_are_those_of_the_store_inside(wrap: Callable[[Store], Store], tmp_path: Path) -> None:
    inner = LocalStore(tmp_path)
    store = wrap(inner)
    inner.put("a", b"1")
    inner.put("b", b"2")
    assert isinstance(store, Copies)
    assert isinstance(store, LocalPaths)
    assert store.path("a") == inner.path("a")
    with pytest.raises(ObjectMissing):
        store.path("none")
    with pytest.raises(ObjectExists):
        store.copy_if_absent("a", "b")
    with pytest.raises(ObjectMissing):
        store.copy_if_absent("none", "c")


def test_what_nobody_finished_is_swept_through_wrappers_and_again_where_there_was_no_answer(
    tmp_path: Path,
) -> None:
    clock = VirtualClock()
    left = tmp_path / ".tmp" / "left"
    left.parent.mkdir()
    left.write_bytes(b"half")
    faulty = FaultyStore(LocalStore(tmp_path), Script(At(Refused(), "sweep_unfinished")))
    store = RetryingStore(faulty, clock=clock.now, sleep=clock.sleep)
    assert isinstance(store, Unfinished)
    assert store.sweep_unfinished(0.0, dry_run=True) == Leftovers(1, 4)
    assert left.exists()
    assert store.sweep_unfinished(0.0) == Leftovers(1, 4)
    assert not left.exists()


def test_a_store_that_cannot_name_folders_is_listed_for_them() -> None:
    store = Over()
    for key in ("a/1", "a/b/2", "a/c/3", "ab/3", "d"):
        store.put(key, b"")
    assert not isinstance(store, Folders)
    assert folder_names(store, "a") == ["b", "c"]
    assert folder_names(store, "") == ["a", "ab"]


def test_a_download_that_breaks_off_is_made_again_and_another_file_is_not_touched(tmp_path: Path) -> None:
    clock = VirtualClock()
    store = RetryingStore(FaultyStore(Downloading(fails=2)), clock=clock.now, sleep=clock.sleep)
    etag = store.put("a", b"content")
    assert isinstance(store, Downloads)
    assert store.download("a", tmp_path / "file").etag == etag
    assert (tmp_path / "file").read_bytes() == b"content"
    with pytest.raises(FileExistsError):
        store.download("a", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"content"


def test_a_part_of_an_object_is_asked_for_again_where_it_broke_off() -> None:
    clock = VirtualClock()
    faulty = FaultyStore(Downloading(fails=2), Script(At(Refused(), "get_range")))
    store = RetryingStore(faulty, clock=clock.now, sleep=clock.sleep)
    store.put("a", b"content")
    assert isinstance(store, Ranges)
    assert store.get_range("a", 3, 7) == b"tent"
    assert [call.verb for call, _ in faulty.trace].count("get_range") == 4


def test_a_file_that_was_there_before_survives_a_download_without_an_answer(tmp_path: Path) -> None:
    clock = VirtualClock()
    faulty = FaultyStore(Downloading(), Script(At(Refused(), "download")))
    store = RetryingStore(faulty, clock=clock.now, sleep=clock.sleep)
    store.put("a", b"content")
    (tmp_path / "file").write_bytes(b"there before")
    assert isinstance(store, Downloads)
    with pytest.raises(FileExistsError):
        store.download("a", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"there before"


def test_a_large_file_is_compared_by_a_download_and_not_read_into_memory(tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(b"mine")
    clock = VirtualClock()
    faulty = FaultyStore(Downloading(fails=1), Script(At(AnswerLost(), "put_if_absent")))
    store = RetryingStore(faulty, clock=clock.now, sleep=clock.sleep)
    assert store.put_if_absent("a", tmp_path / "body") == store.head("a").etag
    (tmp_path / "body").write_bytes(b"hers")
    with pytest.raises(ObjectExists):
        store.put_if_absent("a", tmp_path / "body")
