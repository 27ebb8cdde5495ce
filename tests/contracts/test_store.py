"""What every store does, one call after the other."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.support.stores import in_threads, keys, often

from embedmill.errors import ObjectExists, ObjectMissing, PreconditionFailed, StoreError
from embedmill.store import (
    Adopts,
    Copies,
    Downloads,
    LocalPaths,
    Ranges,
    Store,
    checked_key,
    copy,
    download,
    fetch,
    folder_names,
    join_key,
    open_store,
)
from embedmill.store.cloud import CloudStore
from embedmill.store.local import LocalStore

NOT_KEYS = ["", "/", "/a", "a/", "a//b", ".", "..", "a/..", "a/../b", "./a", "a/./b", "a\0b"]


# One object


def test_an_object_is_what_was_put(store: Store) -> None:
    etag = store.put("a/b.bin", b"\0content\xff")
    assert store.get("a/b.bin") == b"\0content\xff"
    info = store.head("a/b.bin")
    assert (info.key, info.size_bytes, info.etag) == ("a/b.bin", 9, etag)


def test_an_empty_object_is_an_object(store: Store) -> None:
    store.put_if_absent("empty", b"")
    assert store.get("empty") == b""
    assert store.head("empty").size_bytes == 0


def test_the_body_may_be_a_local_file(store: Store, tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(b"x" * 3_000_000)
    store.put("put", body)
    store.put_if_absent("created", body)
    body.write_bytes(b"changed later")
    assert store.get("put") == store.get("created") == b"x" * 3_000_000


def test_a_body_that_does_not_exist_is_an_error_that_names_it_and_not_a_missing_object(
    store: Store, tmp_path: Path
) -> None:
    for write in (store.put, store.put_if_absent):
        with pytest.raises(StoreError, match="no-such-body") as caught:
            write("a", tmp_path / "no-such-body")
        assert not isinstance(caught.value, ObjectMissing)
    assert keys(store) == []


def test_what_is_missing_is_an_error_that_names_the_key(store: Store) -> None:
    store.put("a/b", b"")
    for key in ("none", "a", "a/none", "a/b/c"):
        for read in (store.get, store.head):
            with pytest.raises(ObjectMissing, match=f"^{key}: "):
                read(key)


def test_put_replaces_and_the_etag_changes(store: Store) -> None:
    first = store.put("a", b"one")
    assert store.head("a").etag == first
    second = store.put("a", b"two")
    assert store.get("a") == b"two"
    assert store.head("a").etag == second != first


def test_versions_with_other_bytes_have_other_etags(store: Store) -> None:
    assert len({store.put("a", f"version {number:03}".encode()) for number in range(300)}) == 300


def test_delete_removes_and_what_is_missing_is_no_error(store: Store) -> None:
    store.put("a/b/c", b"")
    store.put("a/d", b"")
    store.delete("a/b/c")
    store.delete("a/b/c")
    store.delete("never/was")
    assert keys(store) == ["a/d"]
    with pytest.raises(ObjectMissing):
        store.get("a/b/c")


def test_a_deleted_key_can_be_created_again(store: Store) -> None:
    store.put_if_absent("a/b", b"1")
    store.delete("a/b")
    store.put_if_absent("a/b", b"2")
    assert store.get("a/b") == b"2"


# Conditions


def test_put_if_absent_creates_once_and_keeps_the_first(store: Store) -> None:
    etag = store.put_if_absent("a", b"first")
    assert store.head("a").etag == etag
    with pytest.raises(ObjectExists, match=r"^a: "):
        store.put_if_absent("a", b"second")
    assert store.get("a") == b"first"
    assert store.head("a").etag == etag


def test_put_if_match_replaces_only_what_was_read(store: Store) -> None:
    first = store.put("a", b"1")
    second = store.put("a", b"2", if_match=first)
    with pytest.raises(PreconditionFailed, match=r"^a: "):
        store.put("a", b"3", if_match=first)
    assert store.get("a") == b"2"
    assert store.head("a").etag == second


def test_put_if_match_never_creates(store: Store) -> None:
    etag = store.put("a", b"1")
    store.delete("a")
    for key in ("a", "never/was"):
        with pytest.raises(PreconditionFailed):
            store.put(key, b"2", if_match=etag)
    assert keys(store) == []


# Lists


def test_a_list_is_in_order_of_keys_with_size_and_etag(store: Store) -> None:
    etags = {key: store.put(key, key.encode()) for key in ("b", "a/c", "a.b", "a/b/d", "ä", "Z")}
    found = list(store.list(""))
    assert [info.key for info in found] == sorted(etags)
    assert {info.key: info.etag for info in found} == etags
    assert all(info.size_bytes == len(info.key.encode()) for info in found)


def test_a_look_and_a_list_tell_the_same_time_at_which_an_object_was_written(store: Store) -> None:
    before_s = time.time()
    store.put("a", b"1")
    (listed,) = store.list("")
    looked_s = store.head("a").modified_s
    assert (listed.modified_s is None) == (looked_s is None)
    if listed.modified_s is not None and looked_s is not None:
        assert looked_s == pytest.approx(listed.modified_s, abs=1.0), "whole seconds in a header"
        assert before_s - 1.0 <= listed.modified_s <= time.time()


def test_a_prefix_is_a_folder(store: Store) -> None:
    for key in ("a/1", "a/b/2", "ab/3", "a.4", "a b"):
        store.put(key, b"")
    assert keys(store, "a") == ["a/1", "a/b/2"]
    assert keys(store, "a/b") == ["a/b/2"]
    assert keys(store, "nothing/here") == []
    assert keys(store, "a/1") == []


def test_the_folders_of_a_folder_are_named_and_nothing_else(store: Store) -> None:
    for key in ("a/1", "a/b/2", "a/b/c/3", "a/z/4", "a/b.c/5", "ab/3", "a.4"):
        store.put(key, b"")
    assert folder_names(store, "a") == ["b", "b.c", "z"]
    assert folder_names(store, "a/b") == ["c"]
    assert folder_names(store, "a/1") == folder_names(store, "none") == folder_names(store, "a/b/c") == []
    assert folder_names(store, "") == ["a", "ab"]


def test_an_empty_store_lists_nothing(store: Store) -> None:
    assert keys(store) == []


def test_a_list_goes_on_while_objects_come_and_go(store: Store) -> None:
    store.put("keep/a", b"")
    store.put("keep/z", b"")
    stop = threading.Event()

    def churn(number: int) -> None:
        while not stop.is_set():
            store.put(f"keep/{number}/deep/b", b"")
            store.delete(f"keep/{number}/deep/b")

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(churn, number) for number in range(4)]
        try:
            for _ in range(often(store, 200)):
                assert {"keep/a", "keep/z"} <= set(keys(store, "keep"))
        finally:
            stop.set()
        for each in running:
            each.result()


# Keys


@pytest.mark.parametrize("key", NOT_KEYS)
def test_what_is_not_a_key_is_refused_everywhere(store: Store, key: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: store.get(key),
        lambda: store.head(key),
        lambda: store.put(key, b""),
        lambda: store.put(key, b"", if_match="x"),
        lambda: store.put_if_absent(key, b""),
        lambda: store.delete(key),
        lambda: fetch(store, key),
        lambda: checked_key(key),
    ]
    for call in calls:
        with pytest.raises(StoreError, match="is not a key"):
            call()
    if key:
        with pytest.raises(StoreError, match="is not a key"):
            keys(store, key)
    assert keys(store) == []


@pytest.mark.parametrize(
    "key", ["a b", "ä/ö", "a..b", "...", ".hidden", "-rf", "a:b", "*?[x]", "#&=%20", "x" * 255]
)
def test_keys_may_have_any_other_characters(store: Store, key: str) -> None:
    store.put(key, b"1")
    assert store.get(key) == b"1"
    assert keys(store) == [key]


def test_a_backslash_is_kept_or_refused_but_never_becomes_a_slash(store: Store) -> None:
    if isinstance(store, CloudStore):
        with pytest.raises(StoreError, match="backslash"):
            store.put("a\\b", b"1")
        assert keys(store) == []
    else:
        store.put("a\\b", b"1")
        assert keys(store) == ["a\\b"]
        assert store.get("a\\b") == b"1"


def test_parts_join_to_a_key() -> None:
    assert join_key("a", "", "b/c") == "a/b/c"


# Copies and local files


def test_a_copy_is_its_own_object(store: Store) -> None:
    store.put("a", b"content")
    copy(store, "a", "deep/er/b")
    store.put("a", b"other")
    assert store.get("deep/er/b") == b"content"
    store.delete("a")
    assert store.get("deep/er/b") == b"content"


def test_replacing_a_copy_leaves_the_original(store: Store) -> None:
    store.put("a", b"content")
    copy(store, "a", "b")
    store.put("b", b"other")
    assert store.get("a") == b"content"


def test_a_copy_to_a_taken_key_leaves_it_alone(store: Store) -> None:
    store.put("a", b"content")
    store.put("b", b"there before")
    copy(store, "a", "b")
    assert store.get("b") == b"there before"
    if isinstance(store, Copies):
        with pytest.raises(ObjectExists, match=r"^b: "):
            store.copy_if_absent("a", "b")


def test_an_adopted_file_is_an_object_like_any_other(store: Store, tmp_path: Path) -> None:
    if not isinstance(store, Adopts):
        return
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b"first")
    second.write_bytes(b"second")
    store.adopt_if_absent("a", first)
    with pytest.raises(ObjectExists, match=r"^a: "):
        store.adopt_if_absent("a", second)
    assert store.get("a") == b"first"
    store.put("a", b"third")
    assert (store.get("a"), first.read_bytes()) == (b"third", b"first")
    store.delete("a")
    assert first.read_bytes() == b"first"


def test_a_copy_of_nothing_is_an_error(store: Store) -> None:
    with pytest.raises(ObjectMissing, match=r"^none: "):
        copy(store, "none", "b")
    assert keys(store) == []


def test_a_fetched_file_has_the_objects_bytes_and_follows_its_versions(store: Store) -> None:
    store.put("a/b.bin", b"1")
    first = fetch(store, "a/b.bin")
    assert first.read_bytes() == b"1"
    assert first.name.endswith("b.bin")
    assert fetch(store, "a/b.bin") == first
    store.put("a/b.bin", b"2")
    assert fetch(store, "a/b.bin").read_bytes() == b"2"
    with pytest.raises(ObjectMissing):
        fetch(store, "none")


def test_threads_that_fetch_one_object_all_see_it_whole(store: Store) -> None:
    content = b"x" * 2_000_000
    for round_ in range(5):
        store.put("a", content + bytes([round_]))
        seen = in_threads(lambda _: fetch(store, "a").read_bytes())
        assert all(found == content + bytes([round_]) for found in seen)


def test_a_folder_is_downloaded(store: Store, tmp_path: Path) -> None:
    store.put("m/a", b"1")
    store.put("m/b/c", b"2")
    store.put("mm/d", b"3")
    download(store, "m", tmp_path / "target")
    found = {path.relative_to(tmp_path / "target").as_posix() for path in (tmp_path / "target").rglob("*")}
    assert found == {"a", "b", "b/c"}
    assert (tmp_path / "target/b/c").read_bytes() == b"2"


def test_local_paths_are_the_objects_and_not_for_writing(store: Store) -> None:
    assert isinstance(store, LocalPaths) == isinstance(store, LocalStore)
    if isinstance(store, LocalPaths):
        store.put("a", b"1")
        assert store.path("a").read_bytes() == b"1"
        assert store.path("a").stat().st_mode & 0o222 == 0
        with pytest.raises(ObjectMissing):
            store.path("none")


@pytest.mark.parametrize("size_bytes", [0, 1, 3_000_000, 20_000_000])
def test_a_download_is_the_object_at_any_size(store: Store, tmp_path: Path, size_bytes: int) -> None:
    if isinstance(store, Downloads):
        content = os.urandom(size_bytes)
        etag = store.put("a", content)
        info = store.download("a", tmp_path / "file")
        assert (info.key, info.size_bytes, info.etag) == ("a", size_bytes, etag)
        assert (tmp_path / "file").read_bytes() == content
        with pytest.raises(StoreError):
            store.download("a", tmp_path / "file")  # which is there already
        with pytest.raises(ObjectMissing, match=r"^none: "):
            store.download("none", tmp_path / "other")


def test_a_range_is_that_part_of_the_object_and_ends_where_the_object_does(store: Store) -> None:
    if isinstance(store, Ranges):
        content = os.urandom(100_000)
        store.put("a", content)
        for start, stop in ((0, 1), (0, 100_000), (99_999, 100_000), (5_000, 70_000)):
            assert store.get_range("a", start, stop) == content[start:stop]
        assert store.get_range("a", 90_000, 200_000) == content[90_000:]
        assert store.get_range("a", 100_000, 100_001) == b""
        with pytest.raises(ObjectMissing, match=r"^none: "):
            store.get_range("none", 0, 1)


def test_a_large_file_is_created_once_and_leaves_nothing_else(store: Store, tmp_path: Path) -> None:
    for name in ("body", "other"):
        (tmp_path / name).write_bytes(os.urandom(20_000_000))
    etag = store.put_if_absent("large", tmp_path / "body")
    assert store.head("large").etag == etag
    with pytest.raises(ObjectExists, match=r"^large: "):
        store.put_if_absent("large", tmp_path / "other")
    assert fetch(store, "large").read_bytes() == (tmp_path / "body").read_bytes()
    assert keys(store) == ["large"]


def test_the_url_opens_the_same_store(store: Store) -> None:
    store.put("a", b"1")
    assert open_store(store.url).get("a") == b"1"
    assert open_store(store.url).url == store.url
