"""Multipart uploads that a dead process left in a bucket: found, counted and aborted; nobody else's."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import obstore
import pytest
from tests.store.scripted import Script, scripted
from tests.support.s3 import ANYBODY, BUCKET, READER, S3, as_identity
from tools.seaweedfs import Identity, free_ports

from embedmill.errors import StoreDenied, StoreError, StoreUnavailable
from embedmill.store import Leftovers, Unfinished, open_store
from embedmill.store.cloud import CloudStore
from embedmill.store.cloud_config import Place
from embedmill.store.s3_requests import S3Requests
from embedmill.store.uploads import Uploads

PART = 5 << 20
HOUR_S = 3600.0


@pytest.fixture(params=["seaweed", "moto"])
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> CloudStore:
    server: S3 = request.getfixturevalue(request.param)
    as_identity(monkeypatch, server.admin, server.endpoint)
    return CloudStore(server.new_url())


def leave(url: str, key: str) -> None:
    """Begin an upload that never gets a part."""
    place = Place.parse(url)
    path = f"{place.prefix}/{key}"
    assert S3Requests(place, 10.0).ask("POST", path, {"uploads": ""}, key).status == 200


def break_off(url: str, key: str) -> None:
    """Write two parts of an object, and more that is never sent, and go away."""
    place = Place.parse(url)
    client = CloudStore(url)._client
    writer = obstore.open_writer(client, f"{place.prefix}/{key}", buffer_size=PART, max_concurrency=1)
    writer.write(b"x" * (2 * PART + 1))
    deadline = time.monotonic() + 20
    while swept(url, 0.0, dry_run=True).size_bytes < 2 * PART:
        assert time.monotonic() < deadline, "the parts did not arrive"
        time.sleep(0.05)


def found(url: str, page: int = 1_000) -> list[str]:
    place = Place.parse(url)
    return [each.path.removeprefix(f"{place.prefix}/") for each in Uploads(place, 10.0, page=page).listed()]


def swept(url: str, older_than_s: float, *, dry_run: bool = False) -> Leftovers:
    store = open_store(url)
    assert isinstance(store, Unfinished)
    return store.sweep_unfinished(older_than_s, dry_run=dry_run)


def test_an_upload_that_was_broken_off_is_counted_and_then_aborted(store: CloudStore) -> None:
    break_off(store.url, "releases/r/index.faiss")
    store.put("releases/r/whole", b"1")
    assert swept(store.url, 0.0, dry_run=True) == Leftovers(1, 2 * PART)
    assert found(store.url) == ["releases/r/index.faiss"]
    assert swept(store.url, 0.0) == Leftovers(1, 2 * PART)
    assert found(store.url) == []
    assert swept(store.url, 0.0) == Leftovers(0, 0)
    assert [info.key for info in store.list("")] == ["releases/r/whole"]


def test_one_that_got_a_part_not_long_ago_is_not_touched(store: CloudStore) -> None:
    break_off(store.url, "a")
    assert swept(store.url, HOUR_S) == Leftovers(0, 0)
    assert found(store.url) == ["a"]


def test_one_that_began_not_long_ago_is_not_touched(seaweed: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    as_identity(monkeypatch, seaweed.admin, seaweed.endpoint)
    url = seaweed.new_url()
    leave(url, "a")
    assert swept(url, HOUR_S) == Leftovers(0, 0)
    assert found(url) == ["a"]


def test_uploads_outside_of_the_prefix_are_not_touched(store: CloudStore) -> None:
    beside = [f"{store.url}-more", f"s3://{BUCKET}/other-{store.url[-8:]}"]
    for url in [store.url, *beside]:
        leave(url, "a")
    assert swept(store.url, 0.0) == Leftovers(1, 0)
    assert [found(url) for url in [store.url, *beside]] == [[], ["a"], ["a"]]
    assert [swept(url, 0.0) for url in beside] == [Leftovers(1, 0), Leftovers(1, 0)]


def test_all_pages_are_read(store: CloudStore) -> None:
    names = ["a", "b/1", "b/2", "c d&<ü>+%2F", "e"]
    for name in [*names, "e"]:
        leave(store.url, name)
    assert sorted(found(store.url, page=2)) == sorted([*names, "e"])
    uploads = Uploads(Place.parse(store.url), 10.0, page=2)
    assert uploads.sweep(0.0, dry_run=False) == Leftovers(6, 0)
    assert found(store.url) == []


def test_who_may_only_read_is_told_which_permission_is_needed(
    seaweed: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_identity(monkeypatch, seaweed.admin, seaweed.endpoint)
    url = seaweed.new_url()
    leave(url, "a")
    as_identity(monkeypatch, READER, seaweed.endpoint)
    with pytest.raises(StoreDenied, match="refused access") as caught:
        swept(url, 0.0)
    assert "the identity needs s3:" in caught.value.hint
    as_identity(monkeypatch, seaweed.admin, seaweed.endpoint)
    assert found(url) == ["a"]


def test_a_wrong_secret_is_denied_and_nothing_secret_is_said(
    seaweed: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = Identity("admin", access_key=seaweed.admin.access_key)
    as_identity(monkeypatch, wrong, seaweed.endpoint)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token-canary")
    with pytest.raises(StoreDenied) as caught:
        swept(seaweed.new_url(), 0.0)
    said = f"{caught.value} {caught.value.__cause__} {caught.value!r}"
    for secret in (wrong.secret_key, wrong.access_key, "token-canary"):
        assert secret not in said


def test_a_missing_bucket_is_named(seaweed: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    as_identity(monkeypatch, seaweed.admin, seaweed.endpoint)
    with pytest.raises(StoreError, match="bucket 'no-such-bucket' does not exist"):
        swept("s3://no-such-bucket/x", 0.0)


def test_nobody_at_the_endpoint_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = f"http://127.0.0.1:{free_ports(1)[0]}"
    as_identity(monkeypatch, ANYBODY, endpoint)
    with pytest.raises(StoreUnavailable, match=f"{endpoint} cannot be reached") as caught:
        CloudStore("s3://bucket/x").sweep_unfinished(0.0)
    assert caught.value.unreachable


# Answers that real servers give only on bad days


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    with scripted() as script:
        as_identity(monkeypatch, ANYBODY, script.endpoint)
        yield script


def listing(*uploads: tuple[str, str], rest: str = "") -> bytes:
    said = "".join(
        f"<Upload><Key>{key}</Key><UploadId>{key}-id</UploadId><Initiated>{initiated}</Initiated></Upload>"
        for key, initiated in uploads
    )
    return f'<R xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{said}{rest}</R>'.encode()


def sweep(url: str = "s3://bucket/x") -> Leftovers:
    return CloudStore(url).sweep_unfinished(HOUR_S, dry_run=True)


def test_ages_are_told_by_the_services_clock(service: Script) -> None:
    now = datetime.now(UTC)
    initiated = f"{now:%Y-%m-%dT%H:%M:%S}.000Z"
    service.body = listing(("x/a", initiated))
    service.headers = {"Date": format_datetime(now + timedelta(days=400), usegmt=True)}
    (upload,) = Uploads(Place.parse("s3://bucket/x"), 10.0).listed()
    assert (upload.path, upload.upload_id) == ("x/a", "x/a-id")
    assert upload.age_s == pytest.approx(400 * 24 * HOUR_S, abs=1.0)
    service.headers = {"Date": format_datetime(now - timedelta(days=400), usegmt=True)}
    assert sweep() == Leftovers(0, 0)


@pytest.mark.parametrize("date", ["", "yesterday"])
def test_without_the_services_clock_nothing_is_judged(service: Script, date: str) -> None:
    service.body, service.headers = listing(("x/a", "2020-01-01T00:00:00Z")), {"Date": date}
    with pytest.raises(StoreError, match="a time that cannot be read"):
        sweep()


def test_an_answer_that_lists_others_uploads_costs_nobody_anything(service: Script) -> None:
    service.body = listing(("y/a", "2020-01-01T00:00:00Z"), ("xy", "2020-01-01T00:00:00Z"))
    assert sweep() == Leftovers(0, 0)
    assert [each.split()[0] for each in service.asked] == ["GET"]


def test_a_page_that_leads_to_itself_ends(service: Script) -> None:
    service.body = listing(rest="<IsTruncated>true</IsTruncated><NextKeyMarker>k</NextKeyMarker>")
    assert sweep() == Leftovers(0, 0)
    assert len(service.asked) == 2


@pytest.mark.parametrize(
    ("status", "body", "error", "said"),
    [
        (501, b"<Code>NotImplemented</Code>", StoreError, "does not tell of them"),
        (405, b"", StoreError, "does not tell of them"),
        (503, b"<Code>SlowDown</Code>", StoreUnavailable, "503 SlowDown"),
        (301, b"<Code>PermanentRedirect</Code>", StoreError, "another region"),
        (403, b"", StoreDenied, "s3:ListBucketMultipartUploads on the bucket"),
        (200, b"<html>", StoreError, "not its XML"),
        (200, b'<!DOCTYPE r [<!ENTITY a "aa">]><r>&a;</r>', StoreError, "not its XML"),
        (200, listing(("x/a", "yesterday")), StoreError, "a time that cannot be read"),
        (200, listing(("x/a", "2020-01-01T00:00:00")), StoreError, "a time that cannot be read"),
        (200, b"\xff", StoreUnavailable, "broke off"),
    ],
)
def test_other_answers_are_errors_of_ours(
    service: Script, status: int, body: bytes, error: type[StoreError], said: str
) -> None:
    service.status, service.body = status, body
    with pytest.raises(error) as caught:
        sweep()
    assert type(caught.value) is error
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_connection_that_is_closed_is_unavailable(service: Script) -> None:
    service.broken_off = True
    with pytest.raises(StoreUnavailable, match="closed the connection"):
        sweep()


def test_google_and_azure_do_not_offer_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_BEARER_TOKEN", "token")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")
    assert not isinstance(CloudStore("gs://bucket/x"), Unfinished)
    assert not isinstance(CloudStore("az://container/x"), Unfinished)
