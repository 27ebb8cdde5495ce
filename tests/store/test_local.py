"""A folder as a store, on disks that are full, read-only or slow to die."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from embedmill.errors import ObjectExists, ObjectMissing, StoreError
from embedmill.store import cache_folder, open_store
from embedmill.store.local import LocalStore

HEADER = """
import sys
from pathlib import Path
from embedmill.errors import EmbedmillError
from embedmill.store import copy, fetch, open_store
from embedmill.store.local import LocalStore
store = LocalStore(sys.argv[1])
def attempt(call):
    try:
        print(call() or "done")
    except EmbedmillError as error:
        print(error.code, "|", error.message, "|", error.hint)
"""


def python(code: str, *arguments: object, before: str = "") -> subprocess.CompletedProcess[str]:
    """Run code with a store in another process; `before` is a shell command in a mount namespace of it."""
    command = [sys.executable, "-c", HEADER + code, *map(str, arguments)]
    if before:
        command = [
            "unshare",
            "--map-root-user",
            "--mount",
            "sh",
            "-ec",
            f'{before}; exec "$@"',
            "sh",
            *command,
        ]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=240, check=False, env=own_environment()
    )


def own_environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}


def can_mount() -> bool:
    command = ["unshare", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/tmp"]
    return (
        shutil.which("unshare") is not None
        and subprocess.run(command, check=False, capture_output=True).returncode == 0
    )


mounts = pytest.mark.skipif(not can_mount(), reason="the kernel allows no mount namespaces here")


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def lines(run: subprocess.CompletedProcess[str]) -> list[str]:
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


# Full and read-only disks


@mounts
def test_a_full_disk_is_store_full_and_leaves_no_part_of_an_object(tmp_path: Path) -> None:
    code = """
attempt(lambda: store.put_if_absent("small", b"x" * 1000))
attempt(lambda: store.put_if_absent("large", b"x" * 5_000_000))
attempt(lambda: store.put("small", b"x" * 5_000_000))
attempt(lambda: [info.key for info in store.list("")])
attempt(lambda: len(store.get("small")))
attempt(lambda: store.put_if_absent("after", b"x" * 1000))
"""
    found = lines(python(code, tmp_path, before=f"mount -t tmpfs -o size=1m tmpfs {tmp_path}"))
    assert [line.split(" | ")[0] for line in found[1:3]] == ["StoreFull", "StoreFull"]
    assert f"{tmp_path}/large: no space left" in found[1]
    assert "free some space, then run again" in found[1]
    assert found[3:5] == ["['small']", "1000"]
    assert len(found[5]) == 16  # an ETag: the failed writes gave their space back


@mounts
def test_a_full_cache_is_store_full(tmp_path: Path) -> None:
    code = """
import os
memory = open_store("memory://m")
memory.put("a", b"x" * 5_000_000)
os.environ["EMBEDMILL_CACHE"] = sys.argv[1]
attempt(lambda: fetch(memory, "a"))
"""
    (found,) = lines(python(code, tmp_path, before=f"mount -t tmpfs -o size=1m tmpfs {tmp_path}"))
    assert found.startswith("StoreFull | ")


def test_a_file_size_limit_is_store_full(store: LocalStore) -> None:
    code = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
attempt(lambda: store.put_if_absent("large", b"x" * 200_000))
attempt(lambda: [info.key for info in store.list("")])
"""
    found = lines(python(code, store.root))
    assert found[0].startswith("StoreFull | ")
    assert found[1] == "done"  # an empty list


READ_ONLY = """
attempt(lambda: store.get("a"))
attempt(lambda: store.put("a", b"2"))
attempt(lambda: store.put("a", b"2", if_match=store.head("a").etag))
attempt(lambda: store.put_if_absent("b", b"2"))
attempt(lambda: store.delete("a"))
attempt(lambda: copy(store, "a", "b"))
attempt(lambda: [info.key for info in store.list("")])
"""


@mounts
def test_a_read_only_store_is_denied_to_writers_and_read_by_readers(store: LocalStore) -> None:
    store.put("a", b"1")
    remount = f"mount --bind {store.root} {store.root}; mount -o remount,ro,bind {store.root}"
    found = lines(python(READ_ONLY, store.root, before=remount))
    assert found[0] == "b'1'"
    assert [line.split(" | ")[0] for line in found[1:6]] == ["StoreDenied"] * 5
    assert all("read-only file system" in line and "must be writable" in line for line in found[1:6])
    assert found[6] == "['a']"


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users may enter, unlike pytest's."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_folders_without_permission_are_denied_and_do_not_look_empty(open_folder: Path) -> None:
    store = LocalStore(open_folder / "store")
    store.put("closed/a", b"1")
    store.put("open/a", b"1")
    (store.root / "closed").chmod(0)
    code = """
import os
if os.getuid() == 0:  # whom permissions do not stop
    os.setuid(65534)
attempt(lambda: store.get("closed/a"))
attempt(lambda: store.path("closed/a"))
attempt(lambda: list(store.list("")))
attempt(lambda: list(store.list("closed")))
attempt(lambda: store.put("closed/b", b""))
attempt(lambda: store.put_if_absent("open/b", b""))
attempt(lambda: store.delete("open/a"))
"""
    if os.getuid() != 0:
        for folder in ("open", ".tmp"):
            (store.root / folder).chmod(0o555)
    found = lines(python(code, store.root))
    for folder in ("closed", "open", ".tmp"):
        (store.root / folder).chmod(0o755)
    assert len(found) == 7
    assert all(line.startswith("StoreDenied | ") and "permission denied" in line for line in found)


# Keys and folders


def test_a_path_below_an_object_is_an_error_and_not_a_crash(store: LocalStore) -> None:
    store.put("a", b"1")
    for write in (store.put, store.put_if_absent):
        with pytest.raises(StoreError) as caught:
            write("a/b/c", b"2")
        assert not isinstance(caught.value, (ObjectExists, ObjectMissing))
    store.delete("a/b/c")
    assert store.get("a") == b"1"


def test_the_folder_of_other_objects_is_not_an_object_that_exists(store: LocalStore) -> None:
    store.put("a/b", b"1")
    for write in (store.put, store.put_if_absent):
        with pytest.raises(StoreError) as caught:
            write("a", b"2")
        assert not isinstance(caught.value, (ObjectExists, ObjectMissing))
    with pytest.raises(ObjectMissing):
        store.get("a")
    assert [info.key for info in store.list("")] == ["a/b"]


def test_a_name_too_long_for_the_disk_is_an_error_of_the_store(store: LocalStore) -> None:
    calls: list[Callable[[str], object]] = [
        store.get,
        store.head,
        store.path,
        lambda key: store.put(key, b""),
        lambda key: store.put_if_absent(key, b""),
        store.delete,
    ]
    store.put("a", b"1")
    for call in calls:
        with pytest.raises(StoreError, match="too long"):
            call("x" * 300)


@pytest.mark.parametrize("key", [".tmp", ".tmp/lock", ".tmp/x/y"])
def test_the_folder_of_unfinished_objects_has_no_keys(store: LocalStore, key: str) -> None:
    store.put("a", b"1")
    with pytest.raises(StoreError, match="is not a key"):
        store.put(key, b"")
    with pytest.raises(StoreError, match="is not a key"):
        store.get(key)
    assert [info.key for info in store.list("")] == ["a"]


def test_a_root_that_is_a_file_is_an_error_of_the_store(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError):
        LocalStore(tmp_path / "file").put("a", b"")
    with pytest.raises(StoreError):
        LocalStore(tmp_path / "file").put_if_absent("a", b"")
    with pytest.raises(ObjectMissing):
        LocalStore(tmp_path / "file").get("a")


def test_reading_makes_no_folder(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "none")
    assert list(store.list("")) == []
    store.delete("a/b")
    with pytest.raises(ObjectMissing):
        store.get("a")
    assert not (tmp_path / "none").exists()


def test_objects_are_not_for_writing_and_a_copy_shares_their_bytes(store: LocalStore) -> None:
    store.put_if_absent("a", b"1")
    store.copy_if_absent("a", "b/c")
    assert store.path("a").stat().st_mode & 0o777 == 0o444
    assert store.path("a").samefile(store.path("b/c"))


# Death


def test_a_killed_writer_leaves_whole_objects_or_none(store: LocalStore) -> None:
    code = """
import hashlib, itertools, os
for number in itertools.count():
    body = os.urandom(2_000_000)
    store.put_if_absent(f"created/{hashlib.sha256(body).hexdigest()}", body)
    store.put("replaced", hashlib.sha256(body).digest() + body)
    print(number, flush=True)
"""
    seconds = random.Random(0)
    for _ in range(6):
        command = [sys.executable, "-c", HEADER + code, str(store.root)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=own_environment()) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(seconds.uniform(0, 0.15))
            writer.kill()
        for info in store.list("created"):
            body = store.get(info.key)
            assert hashlib.sha256(body).hexdigest() == info.key.split("/")[1]
        replaced = store.get("replaced")
        assert hashlib.sha256(replaced[32:]).digest() == replaced[:32]
    assert {info.key.split("/")[0] for info in store.list("")} == {"created", "replaced"}


def test_a_writer_that_is_killed_holds_no_lock(store: LocalStore) -> None:
    code = """
import fcntl, time
with open(store.root / ".tmp" / "lock", "a") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    print("locked", flush=True)
    time.sleep(60)
"""
    store.put("a", b"1")
    command = [sys.executable, "-c", HEADER + code, str(store.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=own_environment()) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"locked\n"
        waiting = threading.Thread(target=lambda: store.put("a", b"2"))
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
        writer.kill()
        waiting.join(120)
    assert store.get("a") == b"2"


def test_of_many_processes_exactly_one_creates_and_no_update_is_lost(store: LocalStore) -> None:
    code = """
from embedmill.errors import ObjectExists, PreconditionFailed
mine, wins = sys.argv[2].encode() * 50_000, 0
sys.stdin.readline()
for number in range(40):
    try:
        store.put_if_absent(f"created/{number}", mine)
        wins += 1
    except ObjectExists:
        pass
    while True:
        info = store.head("counter")
        try:
            store.put("counter", b"%06d" % (int(store.get("counter")) + 1), if_match=info.etag)
            break
        except PreconditionFailed:
            pass
print(wins)
"""
    store.put("counter", b"000000")
    command = [sys.executable, "-c", HEADER + code, str(store.root)]
    running = [
        subprocess.Popen(
            [*command, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=own_environment(),
        )
        for number in range(4)
    ]
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    wins = [int(process.communicate(timeout=240)[0]) for process in running]
    assert sum(wins) == 40
    assert int(store.get("counter")) == 160
    bodies = [store.get(f"created/{number}") for number in range(40)]
    assert all(body == body[:1] * 50_000 for body in bodies)
    assert [sum(body[:1] == b"%d" % number for body in bodies) for number in range(4)] == wins


# Opening


def test_a_url_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_store("./mill").url == str(tmp_path / "mill")
    assert open_store("mill", relative_to=tmp_path / "x").url == str(tmp_path / "x" / "mill")
    assert open_store("/a/b", relative_to=tmp_path).url == "/a/b"
    assert open_store("file:///a/b%20c").url == "/a/b c"
    assert open_store("file:///a#b").url == "/a#b"


@pytest.mark.parametrize("url", ["ftp://bucket/x", "file://mill", "file:mill", "https://example.org"])
def test_other_urls_are_refused_with_what_is_allowed(url: str) -> None:
    with pytest.raises(Exception, match=r"not known|not an absolute path"):
        open_store(url)


def test_named_memory_stores_are_found_again() -> None:
    open_store("memory://shared-name").put("a", b"1")
    assert open_store("memory://shared-name").get("a") == b"1"
    assert list(open_store("memory://other-name").list("")) == []


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDMILL_CACHE", "/x/y")
    assert cache_folder() == Path("/x/y")
    monkeypatch.delenv("EMBEDMILL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/z")
    assert cache_folder() == Path("/z/embedmill")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "embedmill"
