"""Many objects of a local store get second names at once, or are copied."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from embedmill.errors import ObjectMissing, StoreError
from embedmill.store.cache import copy_all
from embedmill.store.local import LocalStore


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def synced(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The store's folders, each time that one is brought to the disk: relative to it, in order."""
    found: list[str] = []
    fsync = os.fsync

    def noted(handle: int) -> None:
        fsync(handle)
        file = Path(f"/proc/self/fd/{handle}").readlink()
        if file.is_dir():
            found.append(file.relative_to(store.root).as_posix())

    monkeypatch.setattr(os, "fsync", noted)
    return found


def test_many_objects_are_linked_and_what_cannot_be_is_left_to_be_copied(store: LocalStore) -> None:
    for name in ("a", "b", "taken"):
        store.put_if_absent(name, name.encode())
    left = store.link_many([("a", "x/a"), ("b", "x/y/b"), ("a", "taken"), ("none", "x/none"), ("b", "a/b")])
    assert left == [("none", "x/none"), ("b", "a/b")]  # of the latter the folder is an object
    assert store.path("x/a").samefile(store.path("a"))
    assert store.path("x/y/b").samefile(store.path("b"))
    assert store.get("taken") == b"taken"
    assert {info.key for info in store.list("")} == {"a", "b", "taken", "x/a", "x/y/b"}


def test_a_copy_of_many_says_what_is_missing_or_in_the_way(store: LocalStore) -> None:
    store.put_if_absent("a", b"1")
    with pytest.raises(ObjectMissing, match=r"^none: "):
        copy_all(store, [("a", "b"), ("none", "c")])
    with pytest.raises(StoreError, match="a: file exists"):
        copy_all(store, [("a", "a/d")])
    assert store.get("b") == b"1"


def test_where_a_file_system_has_no_links_many_are_copied(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only links to temporary files work, as they would with few links allowed for a file."""
    store.put_if_absent("a", b"1")
    store.put_if_absent("taken", b"2")
    link = os.link

    def few(source: Path, target: Path) -> None:
        if source == store.path("a"):
            raise OSError(errno.EMLINK, "Too many links", str(source), None, str(target))
        link(source, target)

    monkeypatch.setattr(os, "link", few)
    copy_all(store, [("a", "b"), ("a", "c"), ("a", "taken")])
    assert [store.get(key) for key in ("b", "c", "taken")] == [b"1", b"1", b"2"]
    assert not store.path("a").samefile(store.path("b"))


def test_each_folder_that_links_came_into_is_synced_once_and_so_is_where_it_was_made(
    store: LocalStore, synced: list[str]
) -> None:
    for name in ("a", "b", "c"):
        store.put_if_absent(name, b"1")
    synced.clear()
    store.link_many([("a", "x/y/a"), ("b", "x/y/b"), ("c", "x/y/c")])
    assert sorted(synced) == [".", "x", "x/y"]
    synced.clear()
    store.link_many([("a", "x/y/d"), ("b", "x/b")])
    assert sorted(synced) == ["x", "x/y"]


def test_what_was_linked_before_is_synced_as_if_it_were_new(
    store: LocalStore, synced: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its maker may have died between the links and the syncs."""
    for name in ("a", "b"):
        store.put_if_absent(name, b"1")
    with monkeypatch.context() as dying:
        link = os.link

        def dies(source: Path, target: Path) -> None:
            if target.name == "b":
                raise KeyboardInterrupt
            link(source, target)

        dying.setattr(os, "link", dies)
        synced.clear()
        with pytest.raises(KeyboardInterrupt):
            store.link_many([("a", "x/y/a"), ("b", "z/b")])
        assert synced == []
    assert store.link_many([("a", "x/y/a"), ("b", "z/b")]) == []
    assert sorted(synced) == [".", "x", "x/y", "z"]
