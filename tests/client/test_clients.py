"""Both clients, as one: each test asks with the blocking and with the asynchronous one."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import pytest
from tests.client.scripted import LABELS, Answer, scripted

import embedmill.client
from embedmill.client import AsyncClient, Client, Source
from embedmill.client.patience import Patience
from embedmill.errors import (
    EmbedmillError,
    Overloaded,
    ReleaseMismatch,
    RequestRefused,
    ServerUnavailable,
    SpecError,
)

Ask: TypeAlias = Callable[..., Any]
RELEASE = Answer({"pipeline": "test", "encoders": {"item": {}, "query_text": {}}})
BUSY = Answer({"error": {"message": "too much", "hint": "later"}}, 429, LABELS | {"retry-after": "1"})
OTHER = LABELS | {"embedmill-release": "r2", "embedmill-release-number": "2", "embedmill-model": "m2"}


def blocking(url: str, method: str, *args: Any, options: dict[str, Any] | None = None, **more: Any) -> Any:
    with Client(url, **options or {}) as client:
        return getattr(client, method)(*args, **more)


def asynchronous(
    url: str, method: str, *args: Any, options: dict[str, Any] | None = None, **more: Any
) -> Any:
    async def ask() -> Any:
        async with AsyncClient(url, **options or {}) as client:
            return await getattr(client, method)(*args, **more)

    return asyncio.run(ask())


@pytest.fixture(params=[blocking, asynchronous])
def ask(request: pytest.FixtureRequest) -> Ask:
    found: Ask = request.param
    return found


def vectors(*rows: list[float], headers: dict[str, str] = LABELS) -> Answer:
    coded = [base64.b64encode(np.array(row, "<f4").tobytes()).decode() for row in rows]
    return Answer({"data": [{"embedding": each} for each in coded]}, headers=headers)


def test_the_public_names_are_these() -> None:
    assert sorted(embedmill.client.__all__) == [
        "AsyncClient",
        "Client",
        "Embedded",
        "Found",
        "Item",
        "Source",
    ]
    methods = {"embed", "search", "item", "similar", "release", "close"}
    for kind in (Client, AsyncClient):
        assert {name for name in vars(kind) if not name.startswith("_")} == methods


def test_importing_the_clients_loads_no_model_library_and_no_aiohttp() -> None:
    heavy = "{'onnxruntime', 'tokenizers', 'pyarrow', 'aiohttp', 'pydantic', 'faiss', 'fastapi'}"
    program = f"import sys, embedmill.client; sys.exit(', '.join({heavy} & set(sys.modules)) or None)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_texts_come_as_float32_and_name_their_release(ask: Ask) -> None:
    with scripted([RELEASE, vectors([1.0, 2.0], [0.1, 4.0])]) as server:
        found = ask(server.url, "embed", ["a", "b"])
    np.testing.assert_array_equal(found.vectors_ND, np.array([[1, 2], [0.1, 4]], np.float32))
    assert found.source == Source("r1", 1, "m1")
    asked = json.loads(server.asked[1][3])
    assert asked == {"model": "test-query_text", "input": ["a", "b"], "encoding_format": "base64"}


def test_many_inputs_are_many_requests(ask: Ask) -> None:
    with scripted([RELEASE, vectors([1.0], [2.0]), vectors([3.0])]) as server:
        found = ask(server.url, "embed", ["a", "b", "c"], batch=2, encoder="item")
    assert found.vectors_ND.tolist() == [[1.0], [2.0], [3.0]]
    assert [json.loads(body)["input"] for _, _, _, body in server.asked[1:]] == [["a", "b"], ["c"]]


def test_a_swap_in_between_is_asked_again_so_that_releases_never_mix(ask: Ask) -> None:
    new = vectors([9.0], headers=OTHER)
    with scripted([RELEASE, vectors([1.0]), new, RELEASE, new]) as server:
        found = ask(server.url, "embed", ["a", "b"], batch=1)
    assert found.vectors_ND.tolist() == [[9.0], [9.0]]
    assert found.source.release == "r2"


def test_releases_that_answer_in_turn_end_in_an_error(ask: Ask) -> None:
    answers = [RELEASE, vectors([1.0]), vectors([9.0], headers=OTHER)]
    with scripted(answers * 3) as server, pytest.raises(ReleaseMismatch, match="r1 and r2 answered in turn"):
        ask(server.url, "embed", ["a", "b"], batch=1)


def test_too_much_is_asked_again_when_the_server_says(ask: Ask) -> None:
    with scripted([BUSY, Answer({}, 503), RELEASE]) as server:
        started = time.monotonic()
        assert ask(server.url, "release")["pipeline"] == "test"
    assert time.monotonic() - started > 1.0
    assert server.paths == ["/release"] * 3


def test_nobody_waits_longer_than_allowed(ask: Ask) -> None:
    later = BUSY._replace(headers=LABELS | {"retry-after": "3600"})
    with scripted([later]) as server, pytest.raises(Overloaded, match="too much") as caught:
        ask(server.url, "release", options={"retry_for_s": 5})
    assert len(server.asked) == 1
    assert caught.value.retry_after_s == 3600


def test_a_lost_connection_is_asked_again(ask: Ask) -> None:
    with scripted([Answer(None, 0), RELEASE]) as server:
        assert ask(server.url, "release")["pipeline"] == "test"


def test_a_server_that_is_not_there_is_unavailable(ask: Ask) -> None:
    with scripted([RELEASE]) as server:
        pass
    with pytest.raises(ServerUnavailable, match=server.url):
        ask(server.url, "release", options={"retry_for_s": 0.3})


def test_a_server_that_says_nothing_is_unavailable_in_time(ask: Ask) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ServerUnavailable):
            ask(url, "release", options={"timeout_s": 0.3, "retry_for_s": 0})


@pytest.mark.parametrize(
    "expected", [{"expect_release": "r1"}, {"expect_release": 1}, {"expect_model": "m1"}]
)
def test_the_expected_release_may_answer_and_no_other(ask: Ask, expected: dict[str, Any]) -> None:
    with scripted([RELEASE, RELEASE._replace(headers=OTHER)]) as server:
        ask(server.url, "release", options=expected)
        with pytest.raises(ReleaseMismatch, match="r2"):
            ask(server.url, "release", options=expected)


def test_an_answer_without_a_release_is_not_believed(ask: Ask) -> None:
    with (
        scripted([RELEASE._replace(headers={})]) as server,
        pytest.raises(ServerUnavailable, match="no release"),
    ):
        ask(server.url, "release", options={"expect_release": 1})


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (Answer({"error": {"message": "no", "hint": "do"}}, 404), RequestRefused, r"404: no \(do\)"),
        (Answer({"error": "plain"}, 400), RequestRefused, "400: plain"),
        (Answer(b"<html>nginx", 500), RequestRefused, "500: <html>nginx"),
        (Answer(b"<html>hello"), ServerUnavailable, "no JSON: <html>hello"),
        (Answer([1]), ServerUnavailable, "tells of no release"),
    ],
)
def test_an_error_says_what_the_server_said(
    ask: Ask, answer: Answer, error: type[EmbedmillError], says: str
) -> None:
    with scripted([answer]) as server, pytest.raises(error, match=says):
        ask(server.url, "release")


def test_a_key_and_a_path_before_the_addresses_are_sent(ask: Ask) -> None:
    with scripted([RELEASE]) as server:
        ask(f"{server.url}/mill/", "release", options={"key": "secret"})
    ((method, path, headers, _),) = server.asked
    assert (method, path, headers["authorization"]) == ("GET", "/mill/release", "Bearer secret")


def test_ids_are_quoted(ask: Ask) -> None:
    hits = {"hits": [{"id": "a/b", "score": 1.0, "fields": {}}]}
    with scripted([Answer({"id": "a/b", "fields": {}}), Answer(hits)]) as server:
        assert ask(server.url, "item", "a/b ü").id == "a/b"
        assert ask(server.url, "similar", "a/b", k=3).hits[0].id == "a/b"
    assert server.paths == ["/items/a%2Fb%20%C3%BC", "/items/a%2Fb/similar?k=3"]


@pytest.mark.parametrize("key", [".", ".."])
def test_ids_that_urls_lose_go_into_bodies(ask: Ask, key: str) -> None:
    hits = [{"id": each, "score": 1.0, "fields": {"title": each}} for each in (key, "x", "y")]
    own, others = hits[:1], hits[1:]
    with scripted([Answer({"hits": own}), Answer({"hits": others})]) as server:
        item = ask(server.url, "item", key)
        assert (item.id, item.fields) == (key, {"title": key})
        assert [hit.id for hit in ask(server.url, "similar", key, k=2).hits] == ["x", "y"]
    assert server.paths == ["/search", "/search"]
    assert json.loads(server.asked[0][3]) == {"k": 1, "item": key, "where": f"id = '{key}'"}
    assert json.loads(server.asked[1][3]) == {"k": 2, "item": key, "where": f"id <> '{key}'"}


def test_one_text_is_no_list_of_inputs(ask: Ask) -> None:
    wrong: list[Any] = ["text", b"image", [], {"title": "a"}]
    for inputs in wrong:
        with pytest.raises(RequestRefused, match="no list"):
            ask("http://127.0.0.1:1", "embed", inputs)


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://x", "http://", ""])
def test_what_is_no_address_is_said_at_once(url: str) -> None:
    for kind in (Client, AsyncClient):
        with pytest.raises(SpecError, match="no address"):
            kind(url)


def test_waits_grow_and_end() -> None:
    now = 100.0
    patience = Patience(10.0, clock=lambda: now)
    waits = []
    while (wait := patience.wait_s(None)) is not None:
        waits.append(wait)
        now += wait
    assert 4 <= len(waits) <= 9
    assert now <= 110.0
    assert waits[3] > waits[0]


def test_time_spent_on_silence_counts() -> None:
    now = 100.0
    patience = Patience(10.0, clock=lambda: now)
    assert patience.wait_s(3) == 3
    now += 9
    assert patience.wait_s(3) is None


def test_a_connection_that_lay_idle_too_long_costs_nothing() -> None:
    with scripted([RELEASE, Answer(None, 0), RELEASE]) as server, Client(server.url, retry_for_s=0) as client:
        client.release()
        client.release()
    assert len(server.asked) == 3
