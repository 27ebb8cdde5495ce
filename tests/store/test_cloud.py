"""A bucket as a store, on a real S3 server: who may not, what is not there, and how much memory it takes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.s3 import BUCKET, READER, S3, as_identity
from tools.seaweedfs import Identity, free_ports

from embedmill.errors import (
    ObjectExists,
    StoreAbsent,
    StoreDenied,
    StoreError,
    StoreUnavailable,
)
from embedmill.store import Store, open_store
from embedmill.store.cloud import READ_WHOLE, CloudStore
from embedmill.store.probe import probe


@pytest.fixture
def store(seaweed_store_url: str) -> Store:
    return open_store(seaweed_store_url)


def writes(store: Store) -> list[Callable[[], object]]:
    return [
        lambda: store.put("a", b"1"),
        lambda: store.put_if_absent("b", b"1"),
        lambda: store.put("a", b"2", if_match='"0"'),
        lambda: store.delete("a"),
    ]


def test_a_wrong_secret_is_denied_with_the_reason(seaweed: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = Identity("admin", access_key=seaweed.admin.access_key)
    as_identity(monkeypatch, wrong, seaweed.endpoint)
    with pytest.raises(StoreDenied, match="secret key does not fit") as caught:
        open_store(seaweed.new_url()).get("a")
    assert seaweed.endpoint in caught.value.message
    assert_no_secrets(caught.value, wrong)


def test_an_unknown_access_key_is_denied_with_the_reason(
    seaweed: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown = Identity("nobody")
    as_identity(monkeypatch, unknown, seaweed.endpoint)
    with pytest.raises(StoreDenied, match="access key is not known") as caught:
        open_store(seaweed.new_url()).put_if_absent("a", b"1")
    assert_no_secrets(caught.value, unknown)


def test_who_may_only_read_reads_and_is_denied_every_write(
    store: Store, seaweed: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("a", b"1")
    as_identity(monkeypatch, READER, seaweed.endpoint)
    reading = open_store(store.url)
    assert reading.get("a") == b"1"
    assert [info.key for info in reading.list("")] == ["a"]
    for write in writes(reading):
        with pytest.raises(StoreDenied, match="write"):
            write()
    with pytest.raises(StoreDenied):
        CloudStore(store.url).copy_if_absent("a", "b")


def assert_no_secrets(error: StoreError, identity: Identity) -> None:
    said = f"{error} {error.__cause__} {error!r}"
    assert identity.secret_key not in said
    assert identity.access_key not in said
    assert "\n" not in str(error)


CALLS: dict[str, Callable[[CloudStore], object]] = {
    "get": lambda store: store.get("a"),
    "head": lambda store: store.head("a"),
    "put": lambda store: store.put("a", b""),
    "put_if_absent": lambda store: store.put_if_absent("a", b""),
    "list": lambda store: list(store.list("")),
    "delete": lambda store: store.delete("a"),
    "copy": lambda store: store.copy_if_absent("a", "b"),
}


@pytest.mark.parametrize("call", [name for name in CALLS if name != "delete"])
@pytest.mark.parametrize("url", ["s3://no-such-bucket", "s3://no-such-bucket/deeper"])
def test_a_missing_bucket_is_named_and_is_no_missing_object(
    seaweed: S3, monkeypatch: pytest.MonkeyPatch, url: str, call: str
) -> None:
    as_identity(monkeypatch, seaweed.admin, seaweed.endpoint)
    with pytest.raises(StoreError, match="bucket 'no-such-bucket' does not exist") as caught:
        CALLS[call](CloudStore(url))
    assert type(caught.value) is StoreAbsent


def test_the_probe_of_a_missing_bucket_ends_with_that(seaweed: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    as_identity(monkeypatch, seaweed.admin, seaweed.endpoint)
    with pytest.raises(StoreAbsent, match="bucket 'no-such-bucket' does not exist"):
        probe([CloudStore("s3://no-such-bucket/mill")])


@pytest.mark.parametrize("call", CALLS)
def test_nobody_at_the_endpoint_is_unavailable_and_names_it(
    seaweed: S3, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    endpoint = f"http://127.0.0.1:{free_ports(1)[0]}"
    as_identity(monkeypatch, seaweed.admin, endpoint)
    with pytest.raises(StoreUnavailable, match=f"{endpoint} cannot be reached"):
        CALLS[call](CloudStore(f"s3://{BUCKET}/x"))


def test_no_credentials_at_all_is_denied_with_where_they_come_from(
    seaweed: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_identity(monkeypatch, seaweed.admin, seaweed.endpoint)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StoreDenied, match="no credentials"):
        CloudStore(f"s3://{BUCKET}/x", timeout_s=2).get("a")


def test_two_endpoints_of_one_server_show_one_store(
    store: Store, seaweed: S3, seaweed_second_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put_if_absent("a", b"1")
    as_identity(monkeypatch, seaweed.admin, seaweed_second_endpoint)
    second = open_store(store.url)
    assert second.get("a") == b"1"
    with pytest.raises(ObjectExists):
        second.put_if_absent("a", b"2")


def test_a_prefix_keeps_stores_of_one_bucket_apart(store: Store) -> None:
    deeper, beside = open_store(f"{store.url}/deeper"), open_store(f"{store.url}-beside")
    store.put("a", b"1")
    deeper.put("a", b"2")
    beside.put("a", b"3")
    assert [info.key for info in store.list("")] == ["a", "deeper/a"]
    assert [info.key for info in deeper.list("")] == ["a"]
    assert store.get("deeper/a") == deeper.get("a") == b"2"


def test_of_many_large_creators_one_wins(store: Store, tmp_path: Path) -> None:
    """Multipart uploads would not do: SeaweedFS completes several."""
    bodies = [tmp_path / str(number) for number in range(4)]
    for body in bodies:
        body.write_bytes(os.urandom(READ_WHOLE + 1))
    won: list[Path] = []

    def create(body: Path) -> None:
        try:
            store.put_if_absent("a", body)
        except ObjectExists:
            return
        won.append(body)

    threads = [threading.Thread(target=create, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = won
    assert store.get("a") == winner.read_bytes()


@pytest.mark.soak
def test_memory_stays_bounded_while_a_large_file_goes_there_and_back(store: Store, tmp_path: Path) -> None:
    size_bytes, allowed_bytes = 200 << 20, 120 << 20
    body = tmp_path / "body"
    with body.open("wb") as out:
        for _ in range(size_bytes >> 20):
            out.write(os.urandom(1 << 20))
    script = f"""
import resource, sys
from pathlib import Path
from embedmill.store import open_store
store = open_store({store.url!r})
store.put_if_absent("warm", b"1"); store.download("warm", Path({str(tmp_path / "warm")!r}))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
store.put_if_absent("a", Path({str(body)!r}))
store.put("b", Path({str(body)!r}))
store.download("a", Path({str(tmp_path / "copy")!r}))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) < allowed_bytes, f"{int(done.stdout) >> 20} MiB more"
    assert (tmp_path / "copy").read_bytes() == body.read_bytes()
