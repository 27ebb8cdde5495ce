"""Bodies that no document describes: cut, flipped, endless, lying. No answer is a server's fault."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.every_input import png
from tests.serving_group.addresses import (
    HEADER_LENGTH,
    Operation,
    Request,
    as_json,
    as_tensors,
    operations,
    send,
)
from tests.serving_group.goldens import golden
from tests.support.server_process import ServerProcess

from embedmill.release.reader import Release

SERVER_ERROR = 500
POSTS = [each for each in operations() if each.method == "POST"]
TYPES = [
    "application/json",
    "application/octet-stream",
    "multipart/form-data",
    "text/plain",
    "",
    "a/b; c=\xff",
]
NUMBERS = [b"9" * 5000, b"1e999", b"-1e999", b"NaN", b"Infinity", b"-0", b"1" + b"0" * 400, b"1e-400", b"[1]"]
DEEP = [b"[" * 50_000, b'{"inputs":' * 20_000, b"[" * 900 + b"]" * 900, b'{"a":' * 900 + b"1" + b"}" * 900]
ENTRIES: list[bytes] = [
    b"null",
    b"[]",
    b"{}",
    b'"\\ud800"',
    b'{"":""}',
    b'{"\\ud800": 1}',
    b'{"text": "\\ud800"}',
    b'{"item": "\\ud800"}',
    b'{"item": 1e999}',
    b'{"item": 123456789012345678901234567890}',
    b'{"model": "\\ud800", "input": "a"}',
    b'{"model": "test", "input": "a", "encoder": "\\ud800"}',
    b'{"model": "test", "input": "a", "dimensions": 123456789012345678901234567890}',
    b'{"instances": [123456789012345678901234567890]}',
    b'{"instances": [{"title": 1e999, "category": -0.0}]}',
    b'{"inputs": {"title": [true], "category": [0.1]}}',
    b'{"text": "a", "text": "b"}',
    b'{"vector": [' + b", ".join([b"NaN"] * 16) + b"]}",
    b'{"vector": [' + b", ".join([b"1e999"] * 16) + b"]}",
    b'{"vector": [' + b", ".join([b"1e38"] * 16) + b"]}",
    b'{"vector": [' + b", ".join([b"1e300"] * 16) + b"]}",
    b'{"input": ["a", {"b64": "?"}], "model": "test"}',
    b"\xef\xbb\xbf{}",
    b'{"model": "test", "input": "\x00"}',
]


def valid(operation: Operation) -> Request:
    """A request that the operation answers, or something like it."""
    if operation.path == "/v1/embeddings":
        return as_json({"model": "test", "input": ["item 7", "é"]})
    if operation.path.endswith("/infer"):
        return as_tensors("title", [b"item 7", b""])
    if operation.path.endswith(":predict"):
        return as_json(
            {"instances": [{"title": "item 7", "category": "all"}, {"title": "b", "category": None}]}
        )
    return as_json({"text": "item 7", "k": 3})


@st.composite
def damaged(draw: st.DrawFn, body: bytes) -> bytes:
    """A body with a part cut out, a bit flipped, bytes put in, or a number that is none."""
    at = draw(st.integers(0, len(body)))
    match draw(st.sampled_from(["cut", "end", "flip", "insert", "number", "deep"])):
        case "cut":
            return body[:at] + body[at + draw(st.integers(1, 20)) :]
        case "end":
            return body[:at]
        case "flip":
            bit = draw(st.integers(0, 7))
            return body[:at] + bytes(each ^ (1 << bit) for each in body[at : at + 1]) + body[at + 1 :]
        case "insert":
            return body[:at] + draw(st.binary(min_size=1, max_size=20)) + body[at:]
        case "number":
            return body.replace(
                draw(st.sampled_from([b"3", b'"item 7"', b'"all"', b"[2]"])), draw(st.sampled_from(NUMBERS))
            )
    return body.replace(draw(st.sampled_from([b'"item 7"', b'["', b"{"])), draw(st.sampled_from(DEEP)), 1)


def bodies(body: bytes) -> st.SearchStrategy[bytes]:
    return st.one_of(damaged(body), st.binary(max_size=200), st.sampled_from([*DEEP, *NUMBERS, *ENTRIES]))


def headers(request: Request) -> st.SearchStrategy[Mapping[str, str]]:
    """Mostly those of the request; else another type, or a length that lies."""
    lengths = st.one_of(
        st.integers(-5, 400).map(str), st.sampled_from(["", "x", "1" * 5000, "0x10", "1e3", "1 1"])
    )
    wrong = st.fixed_dictionaries({"Content-Type": st.sampled_from(TYPES)}, optional={HEADER_LENGTH: lengths})
    return st.one_of(
        st.just(request.headers), wrong, lengths.map(lambda it: {**request.headers, HEADER_LENGTH: it})
    )


@pytest.mark.soak(quick=1, large=50)
@pytest.mark.parametrize("operation", POSTS, ids=lambda operation: operation.label)
def test_a_damaged_request_is_the_clients_fault(
    server: ServerProcess, operation: Operation, seed: int
) -> None:
    whole = valid(operation)

    @given(bodies(whole.body), headers(whole))
    def ask(body: bytes, said: Mapping[str, str]) -> None:
        status, answer = send(server.url, operation.method, operation.address, Request(body, said))
        assert status < SERVER_ERROR, answer
        assert len(answer) < 20_000

    ask()
    assert server.alive


@pytest.mark.parametrize("operation", POSTS, ids=lambda operation: operation.label)
def test_what_servers_have_stumbled_over_is_the_clients_fault(
    server: ServerProcess, operation: Operation
) -> None:
    for body in [*DEEP, *NUMBERS, *ENTRIES]:
        request = Request(body, {"Content-Type": "application/json"})
        status, answer = send(server.url, operation.method, operation.address, request)
        assert status < SERVER_ERROR, (body[:200], answer)
        assert b'"score":null' not in answer


MANY = 300_000
ENDLESS = {
    "rows of nothing": b'{"inputs": [' + b"{}," * MANY + b"{}]}",
    "rows of null": b'{"instances": [' + b"null," * MANY + b"null]}",
    "no texts": b'{"model": "test", "input": [' + b"1," * MANY + b"1]}",
    "no numbers": b'{"vector": [' + b'"",' * MANY + b'""]}',
    "no sizes": b'{"inputs": [{"name": "title", "datatype": "BYTES", "shape": [' + b'"",' * MANY + b'""]}]}',
    "unknown keys": b"{" + b",".join(b'"%d":1' % key for key in range(MANY)) + b"}",
    "deep and wide": b'{"instances": [' + b"[[[[]]]]," * (MANY // 4) + b"1]}",
}


def processor_s(server: ServerProcess) -> float:
    """What it has computed by now: unlike the time of day, no other process adds to it."""
    times = psutil.Process(server.process.pid).cpu_times()
    return float(times.user + times.system)


@pytest.mark.parametrize("body", ENDLESS.values(), ids=ENDLESS.keys())
def test_many_faults_are_refused_as_fast_as_one(server: ServerProcess, body: bytes) -> None:
    """To list them all would take a processor twice as long as is allowed here."""
    for operation in POSTS:
        request, before_s = Request(body, {"Content-Type": "application/json"}), processor_s(server)
        status, answer = send(server.url, operation.method, operation.address, request, timeout_s=240)
        assert processor_s(server) - before_s < 10
        assert 400 <= status < SERVER_ERROR
        assert len(answer) < 20_000


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE"])
def test_every_method_at_every_address_gets_an_answer(server: ServerProcess, method: str) -> None:
    for operation in operations():
        status, _ = send(server.url, method, operation.address, Request(b"", {}))
        assert status < SERVER_ERROR


@pytest.mark.parametrize(
    "name",
    ["%00", "%ff", "..%2f..%2fetc%2fpasswd", "a" * 5000, "%F0%9F%98%80", "test-item%0d%0ax:y", "{name}"],
)
def test_odd_names_are_not_found(server: ServerProcess, name: str) -> None:
    for address in (
        "/v1/models/{}",
        "/v2/models/{}/ready",
        "/v1/models/test/versions/{}",
        "/v2/models/{}/infer",
    ):
        method = "POST" if address.endswith("infer") else "GET"
        status, _ = send(server.url, method, address.format(name), Request(b"{}", {}))
        assert status == 404


IMAGE_REQUESTS: list[Callable[[bytes], tuple[str, Request]]] = [
    lambda image: (
        "/v1/models/test-item:predict",
        as_json({"instances": [{"front": {"b64": base64.b64encode(image).decode()}}]}),
    ),
    lambda image: ("/v2/models/test-item/infer", as_tensors("front", [image])),
]


@pytest.mark.soak(quick=1, large=20)
@pytest.mark.parametrize("request_with", IMAGE_REQUESTS, ids=["base64", "bytes"])
def test_a_damaged_image_is_the_clients_fault(
    rich_server: ServerProcess, request_with: Callable[[bytes], tuple[str, Request]], seed: int
) -> None:
    @given(st.one_of(damaged(png(3)), st.binary(min_size=1, max_size=100), st.just(png(3) * 3)))
    def ask(image: bytes) -> None:
        address, request = request_with(image)
        status, answer = send(rich_server.url, "POST", address, request)
        assert status < SERVER_ERROR, answer

    ask()
    assert rich_server.alive


def test_vectors_are_right_after_all_that(
    server: ServerProcess, published: Release, rich_server: ServerProcess, every_input: Release
) -> None:
    for url, release in ((server.url, published), (rich_server.url, every_input)):
        rows, vectors = golden(release, "query_text" if release is published else "item")
        rows, vectors = rows.slice(0, 30), vectors[:30]
        model = f"/v1/models/test-{'query_text' if release is published else 'item'}:predict"
        instances = [{name: _coded(value) for name, value in row.items()} for row in rows.to_pylist()]
        status, answer = send(url, "POST", model, as_json({"instances": instances}))
        assert status == 200
        np.testing.assert_allclose(json.loads(answer)["predictions"], vectors, atol=1e-5)


def _coded(value: object) -> object:
    return {"b64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value
