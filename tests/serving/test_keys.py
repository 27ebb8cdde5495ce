from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from tests.serving.conftest import load

from embedmill.errors import SpecError
from embedmill.release.reader import Release
from embedmill.serving.admission import keys as keys_module
from embedmill.serving.admission.keys import KeyRing, check_exposure
from embedmill.serving.admission.rates import Rates
from embedmill.serving.app import make_app
from embedmill.serving.depends import Server
from embedmill.serving.live import Live

SHOP, OTHER = "shop-0123456789abcdef", "other-0123456789abcdef"
QUERY = {"text": "item 7"}


def write(file: Path, text: str, mode: int = 0o600) -> Path:
    file.write_text(text)
    file.chmod(mode)
    return file


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "keys", f"# who may ask\nshop: {SHOP}\n\n{OTHER}\n")


@pytest.fixture
def client(server: Server, file: Path) -> Iterator[TestClient]:
    server.keys = KeyRing(file)
    with TestClient(make_app(server)) as found:
        yield found


@pytest.mark.parametrize(
    "headers",
    [{"authorization": f"Bearer {SHOP}"}, {"authorization": f"bearer {OTHER}"}, {"x-api-key": SHOP}],
)
def test_a_key_lets_in(client: TestClient, headers: dict[str, str]) -> None:
    assert client.post("/search", json=QUERY, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-api-key": ""},
        {"x-api-key": SHOP[:-1]},
        {"authorization": f"Basic {SHOP}"},
        {"authorization": f"Bearer {SHOP} "[:-2]},
        {"x-api-key": "shop"},
    ],
)
def test_anything_else_does_not(client: TestClient, headers: dict[str, str]) -> None:
    answer = client.post("/search", json=QUERY, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["error"]["code"] == "RequestRefused"
    assert client.get("/nothing").status_code == 401  # not even what there is


@pytest.mark.parametrize("path", ["/v2", "/v2/models/test-item/infer", "/v1/models/test-item:predict"])
def test_who_has_no_key_is_told_in_the_shape_of_the_protocol(client: TestClient, path: str) -> None:
    answer = client.post(path, json={})
    assert answer.status_code == 401
    assert answer.json() == {"error": "no key (send Authorization: Bearer KEY)"}


def test_probes_and_metrics_need_no_key(client: TestClient) -> None:
    assert [client.get(path).status_code for path in ("/healthz", "/readyz", "/metrics")] == [200] * 3


def test_metrics_need_one_where_they_are_private(client: TestClient, server: Server) -> None:
    server.private_metrics = True
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics", headers={"x-api-key": SHOP}).status_code == 200


def test_who_watches_is_not_among_those_whose_requests_are_counted(published: Release, file: Path) -> None:
    live = Live(load(published))
    limits = published.content.pipeline.serving.model_copy(update={"requests_per_minute": 6})
    server = Server(live, limits, keys=KeyRing(file), private_metrics=True)
    with TestClient(make_app(server), headers={"x-api-key": SHOP}) as client:
        assert [client.get("/metrics").status_code for _ in range(4)] == [200] * 4
        assert [client.post("/search", json=QUERY).status_code for _ in range(2)] == [200, 429]
        assert client.get("/metrics").status_code == 200
    live.close()


def test_a_changed_file_counts_without_a_restart(
    client: TestClient, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys_module, "LOOK_S", 0.0)
    fresh = write(file.with_name("fresh"), f"{'new-' * 6}\n")
    os.replace(fresh, file)  # noqa: PTH105 - as Kubernetes swaps a secret
    assert client.post("/search", json=QUERY, headers={"x-api-key": SHOP}).status_code == 401
    assert client.post("/search", json=QUERY, headers={"x-api-key": "new-" * 6}).status_code == 200


@pytest.mark.parametrize("change", ["gone", "readable by all", "empty"])
def test_a_file_that_cannot_be_used_leaves_the_keys_as_they_were(
    file: Path, monkeypatch: pytest.MonkeyPatch, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    ring = KeyRing(file)
    monkeypatch.setattr(keys_module, "LOOK_S", 0.0)
    match change:
        case "gone":
            file.unlink()
        case "readable by all":
            file.chmod(0o644)
        case "empty":
            file.write_text("\n")
    assert ring.name_of(SHOP.encode()) == "shop"
    assert "keys stay as they were" in caplog.text


@pytest.mark.parametrize(
    ("text", "mode", "says"),
    [
        ("", 0o600, "has no keys"),
        ("short", 0o600, ":1: a key has at least 16"),
        ("with a space in it", 0o600, ":1: a key"),
        (SHOP, 0o644, "mode 644"),
        (SHOP, 0o660, "mode 660"),
        ("schlüssel-0123456789", 0o600, "ASCII"),
    ],
)
def test_a_file_of_keys_that_is_not_safe_is_refused(tmp_path: Path, text: str, mode: int, says: str) -> None:
    with pytest.raises(SpecError, match=says) as refused:
        KeyRing(write(tmp_path / "keys", text, mode))
    assert text == "" or text not in str(refused.value)


def test_keys_are_nowhere_to_be_read(
    client: TestClient, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    answers = [client.post("/search", json=QUERY, headers={"x-api-key": key}) for key in (SHOP, SHOP[:-1])]
    seen = caplog.text + "".join(str(record.__dict__) for record in caplog.records)
    seen += repr(server) + client.get("/metrics").text + "".join(answer.text for answer in answers)
    assert "'key': 'shop'" in seen
    assert SHOP[:-1] not in seen
    assert "item 7" not in caplog.text + "".join(str(record.__dict__) for record in caplog.records)


@pytest.mark.parametrize(
    ("host", "with_keys", "no_auth", "allowed"),
    [
        ("127.0.0.1", False, False, True),
        ("::1", False, False, True),
        ("localhost", False, False, True),
        ("0.0.0.0", False, False, False),  # noqa: S104 - what is refused
        ("::", False, False, False),
        ("10.0.0.7", False, False, False),
        ("shop.example", False, False, False),
        ("0.0.0.0", True, False, True),  # noqa: S104
        ("0.0.0.0", False, True, True),  # noqa: S104
        ("127.0.0.1", True, True, False),
    ],
)
def test_the_network_is_let_in_with_keys_or_on_purpose(
    host: str, with_keys: bool, no_auth: bool, allowed: bool
) -> None:
    if allowed:
        check_exposure(host, keys=with_keys, no_auth=no_auth)
    else:
        with pytest.raises(SpecError):
            check_exposure(host, keys=with_keys, no_auth=no_auth)


def test_a_key_has_so_many_requests_a_minute_and_others_have_theirs(server: Server, file: Path) -> None:
    server.keys = KeyRing(file)
    server.limits = server.limits.model_copy(update={"requests_per_minute": 1})
    with TestClient(make_app(server)) as client:
        first = [client.post("/search", json=QUERY, headers={"x-api-key": SHOP}) for _ in range(2)]
        other = client.post("/search", json=QUERY, headers={"x-api-key": OTHER})
        health = client.get("/readyz")
    assert [answer.status_code for answer in (*first, other, health)] == [200, 429, 200, 200]
    assert 1 <= int(first[-1].headers["retry-after"]) <= 60


def test_a_bucket_fills_at_its_rate_up_to_its_size() -> None:
    now = [time.monotonic()]
    rates = Rates(60, clock=lambda: now[0])
    assert [rates.wait_s("a") for _ in range(11)] == [0] * 10 + [1]
    now[0] += 2.0
    assert [rates.wait_s("a") for _ in range(3)] == [0, 0, 1]
    now[0] += 3600.0
    assert [rates.wait_s("a") for _ in range(11)] == [0] * 10 + [1]
