"""What each answer of a service means, and that nothing of the answer that may be secret is repeated."""

from __future__ import annotations

import base64
import os
import socket
from collections.abc import Callable, Iterator

import obstore.exceptions
import pytest
from tests.store.scripted import Script, scripted
from tests.support.s3 import ANYBODY, as_identity

from embedmill.errors import (
    CredentialsExpired,
    ObjectExists,
    ObjectMissing,
    PreconditionFailed,
    StoreAbsent,
    StoreDenied,
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from embedmill.store.cloud import CloudStore
from embedmill.store.cloud_errors import KINDS, store_error

SECRET = "AKIASECRETSECRET"  # noqa: S105 - a canary


def xml(code: str) -> bytes:
    said = f"<Code>{code}</Code>\n<Message>no {SECRET}</Message><AWSAccessKeyId>{SECRET}</AWSAccessKeyId>"
    return f'<?xml version="1.0"?>\n<Error>{said}</Error>'.encode()


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    """A server that is every service's endpoint, with credentials for each."""
    with scripted() as script:
        as_identity(monkeypatch, ANYBODY, script.endpoint)
        for name in [name for name in os.environ if name.startswith(("AZURE_", "GOOGLE_"))]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("GOOGLE_BASE_URL", script.endpoint)
        monkeypatch.setenv("GOOGLE_BEARER_TOKEN", "token")
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", base64.b64encode(b"key").decode())
        monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", script.endpoint)
        yield script


def error_of(store: CloudStore, call: str) -> StoreError:
    calls: dict[str, Callable[[], object]] = {
        "get": lambda: store.get("a/b"),
        "create": lambda: store.put_if_absent("a/b", b"1"),
        "put": lambda: store.put("a/b", b"1"),
        "swap": lambda: store.put("a/b", b"1", if_match='"1"'),
    }
    with pytest.raises(StoreError) as caught:
        calls[call]()
    return caught.value


EVERY = ("get", "create", "put", "swap")
ANSWERS = [
    *[(call, 500, "InternalError", StoreUnavailable) for call in EVERY],
    *[(call, 503, "SlowDown", StoreUnavailable) for call in EVERY],
    *[(call, 429, "TooManyRequests", StoreUnavailable) for call in EVERY],
    *[(call, 400, "RequestTimeout", StoreUnavailable) for call in EVERY],
    *[(call, 401, "", StoreDenied) for call in EVERY],
    *[(call, 403, "AccessDenied", StoreDenied) for call in EVERY],
    *[(call, 400, "ExpiredToken", CredentialsExpired) for call in EVERY],
    *[(call, 404, "NoSuchBucket", StoreAbsent) for call in EVERY],
    *[(call, 409, "ConditionalRequestConflict", StoreUnavailable) for call in EVERY],
    *[(call, 409, "", StoreUnavailable) for call in EVERY],
    *[(call, 400, "InvalidRequest", StoreError) for call in EVERY],
    ("get", 404, "NoSuchKey", ObjectMissing),
    ("create", 412, "PreconditionFailed", ObjectExists),
    ("swap", 412, "PreconditionFailed", PreconditionFailed),
    ("swap", 404, "NoSuchKey", PreconditionFailed),
    ("put", 400, "BadDigest", StoreUnavailable),
    ("create", 507, "", StoreFull),
    *[(call, 507, "XMinioStorageFull", StoreFull) for call in ("create", "put", "swap")],
    *[(call, 403, "QuotaExceeded", StoreFull) for call in ("create", "put", "swap")],  # Ceph
    *[(call, 400, "EntityTooLarge", StoreError) for call in ("create", "put", "swap")],
    *[(call, 413, "RequestBodyTooLarge", StoreError) for call in ("create", "put", "swap")],
    *[(call, 400, "XMinioAdminBucketQuotaExceeded", StoreFull) for call in ("create", "put", "swap")],
]


@pytest.mark.parametrize(("call", "status", "code", "kind"), ANSWERS)
def test_an_answer_of_s3_means_one_thing_and_is_asked_for_once(
    service: Script, call: str, status: int, code: str, kind: type[StoreError]
) -> None:
    service.status, service.body = status, xml(code) if code else b""
    error = error_of(CloudStore("s3://bucket/x"), call)
    assert type(error) is kind
    assert len(service.asked) == 1
    assert SECRET not in f"{error!r} {error} {error.__cause__}"
    assert "\n" not in str(error)


def test_an_object_that_is_too_large_is_not_told_to_be_tried_again(service: Script) -> None:
    service.status, service.body = 400, xml("EntityTooLarge")
    error = error_of(CloudStore("s3://bucket/x"), "put")
    assert error.exit_code == 1
    assert "takes no object of this size (400 EntityTooLarge)" in error.message
    assert "does not help" in error.hint


@pytest.mark.parametrize("call", EVERY)
def test_a_connection_that_breaks_off_leaves_the_outcome_open(service: Script, call: str) -> None:
    service.broken_off = True
    error = error_of(CloudStore("s3://bucket"), call)
    assert type(error) is StoreUnavailable
    assert service.endpoint in error.message
    assert len(service.asked) == 1


@pytest.mark.parametrize("call", EVERY)
def test_silence_is_no_answer(service: Script, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        error = error_of(CloudStore("s3://bucket", timeout_s=0.3), call)
    assert type(error) is StoreUnavailable
    assert f"{endpoint} did not answer in time" in error.message


def test_409_is_a_taken_key_on_azure_only_where_the_service_says_so(service: Script) -> None:
    service.status, service.body = 409, xml("BlobAlreadyExists")
    assert type(error_of(CloudStore("az://container/x"), "create")) is ObjectExists
    assert type(error_of(CloudStore("s3://bucket/x"), "create")) is StoreUnavailable
    service.body = xml("LeaseIdMissing")
    assert type(error_of(CloudStore("az://container/x"), "create")) is StoreUnavailable


def test_412_is_a_taken_key_on_google(service: Script) -> None:
    service.status, service.body = 412, xml("PreconditionFailed")
    assert type(error_of(CloudStore("gs://bucket/x"), "create")) is ObjectExists
    assert service.asked == ["PUT /bucket/x%2Fa%2Fb"]


def test_another_region_says_which_variable_to_set(service: Script) -> None:
    service.status = 301
    assert "AWS_REGION" in error_of(CloudStore("s3://bucket"), "get").hint


@pytest.mark.parametrize("name", [n for n in vars(obstore.exceptions) if n.endswith("Error")])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_error_of_obstore_is_told_apart(name: str) -> None:
    kind = getattr(obstore.exceptions, name)
    assert kind.__name__ in KINDS, f"obstore has a new error, {name}: say in cloud_errors.py what it means"
    error = store_error(kind(f"{SECRET}\nmore"), "a/b", service="S3", bucket="b", endpoint="https://s3")
    assert isinstance(error, StoreError)
    assert error.message.startswith("a/b: ")
    assert SECRET not in str(error)
    assert "\n" not in str(error)


def test_obstores_errors_are_those_that_are_walked() -> None:
    names = [name for name in vars(obstore.exceptions) if name.endswith("Error")]
    assert len(names) >= 12
