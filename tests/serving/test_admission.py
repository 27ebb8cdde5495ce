"""Limits that a server keeps, over a socket: bodies, slow clients, clients that leave, too many at once."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import uvicorn
from tests.serving.conftest import load
from tests.serving.slow import Slow, slow_encoder
from tests.support.patience import PATIENCE_S, until

from embedmill.errors import Overloaded
from embedmill.release.reader import Release
from embedmill.serving.admission import patient
from embedmill.serving.admission.bodies import Budget
from embedmill.serving.admission.patient import PatientProtocol
from embedmill.serving.app import make_app
from embedmill.serving.depends import Server
from embedmill.serving.lanes.lane import Lane
from embedmill.serving.live import Live
from embedmill.spec import ServingSpec

PATIENT = ServingSpec(body_s=PATIENCE_S, answer_s=PATIENCE_S, wait_s=PATIENCE_S, patience=1e6)
LIMITS = PATIENT.model_copy(update={"max_body_bytes": 4096, "max_requests": 3})
SLOW_BODIES, SLOW_ANSWERS = (LIMITS.model_copy(update={name: 1.0}) for name in ("body_s", "answer_s"))
"""What bounds one thing only, so that nothing else is ever late."""


@dataclass(frozen=True)
class Listening:
    """A server on a port, whose query encoder can be slowed down."""

    port: int
    server: Server
    runtime: Slow

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)

    def metric(self, line: str) -> float:
        text = self.server.metrics.text().decode()
        found = [row.rsplit(" ", 1)[1] for row in text.splitlines() if row.startswith(line)]
        return sum(map(float, found))


@pytest.fixture
def limits(request: pytest.FixtureRequest) -> ServingSpec:
    """Patient ones, unless a test has its own."""
    found: ServingSpec = getattr(request, "param", LIMITS)
    return found


@pytest.fixture
def headers_s(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> float:
    """Patience with headers."""
    found: float = getattr(request, "param", PATIENCE_S)
    monkeypatch.setattr(patient, "HEADERS_S", found)
    return found


@pytest.fixture
def listening(published: Release, limits: ServingSpec, headers_s: float) -> Iterator[Listening]:
    encoder, runtime = slow_encoder(published)
    served = load(published)
    lanes = {**served.lanes, "query_text": Lane(encoder, limits)}
    served.lanes["query_text"].close()
    object.__setattr__(served, "lanes", lanes)
    server = Server(Live(served), limits)
    config = uvicorn.Config(make_app(server), port=0, log_config=None, http=PatientProtocol, lifespan="off")
    running = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=lambda: asyncio.run(running.serve(sockets=[listener])))
    thread.start()
    try:
        yield Listening(listener.getsockname()[1], server, runtime)
    finally:
        runtime.works.set()
        running.should_exit = True
        thread.join()
        server.live.close()


def request(body: bytes, *headers: str, path: str = "/search") -> bytes:
    lines = [f"POST {path} HTTP/1.1", "host: here", "content-type: application/json", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def sized(body: bytes) -> bytes:
    return request(body, f"content-length: {len(body)}")


def status(connection: socket.socket) -> int:
    """Of the next answer, which is read to its end; 0 where the server hangs up instead."""
    with contextlib.suppress(ConnectionResetError, http.client.RemoteDisconnected):
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        answer.read()
        return answer.status
    return 0


def closed(connection: socket.socket) -> bool:
    while connection.recv(65536):
        pass
    return True


QUERY = json.dumps({"text": "item 7"}).encode()


def test_a_body_that_says_that_it_is_too_large_is_not_read(listening: Listening) -> None:
    with listening.connect() as connection:
        connection.sendall(request(b"", "content-length: 4097"))
        assert status(connection) == 413


def test_a_body_that_turns_out_too_large_is_not_read_on(listening: Listening) -> None:
    with listening.connect() as connection:
        connection.sendall(request(b"", "transfer-encoding: chunked"))
        for _ in range(5):
            connection.sendall(b"400\r\n" + b" " * 1024 + b"\r\n")
        assert status(connection) == 413
    with listening.connect() as connection:
        connection.sendall(sized(QUERY))
        assert status(connection) == 200


@pytest.mark.parametrize("limits", [SLOW_BODIES], indirect=True)
def test_a_body_that_trickles_is_given_up(listening: Listening) -> None:
    with listening.connect() as connection:
        connection.sendall(request(b"{", "content-length: 20"))
        assert status(connection) == 408
        assert closed(connection)
    assert listening.metric('embedmill_requests_refused_total{reason="body_slow"}') == 1


@pytest.mark.parametrize("headers_s", [1.0], indirect=True)
def test_headers_that_trickle_end_the_connection(listening: Listening) -> None:
    with listening.connect() as silent, listening.connect() as slow:
        slow.sendall(b"POST /search HTTP/1.1\r\n")
        assert status(slow) == status(silent) == 0


@pytest.mark.parametrize("headers_s", [6.0], indirect=True)
def test_a_connection_may_be_used_again_and_then_has_a_deadline_again(listening: Listening) -> None:
    """One that is used again and again is kept, while one that is used again too slowly comes to its end."""
    with listening.connect() as connection, listening.connect() as slow:
        for again in (connection, slow):
            again.sendall(sized(QUERY))
            assert status(again) == 200
        slow.sendall(b"POST /se")
        for _ in range(2):
            time.sleep(3.5)  # twice that is longer than one deadline
            connection.sendall(sized(QUERY))
            assert status(connection) == 200
        assert status(slow) == 0


def test_what_a_client_that_left_asked_for_is_not_computed(listening: Listening) -> None:
    listening.runtime.works.clear()
    lane = listening.server.live.served.lane("query_text")
    with listening.connect() as first:
        first.sendall(sized(QUERY))
        until(lambda: lane.rows_inside == 1)
        with listening.connect() as second:
            second.sendall(sized(json.dumps({"text": "nobody waits"}).encode()))
            until(lambda: lane.rows_inside == 2)
        until(lambda: listening.metric('embedmill_requests_refused_total{reason="client_gone"}') == 1)
        listening.runtime.works.set()
        assert status(first) == 200
    assert sum(listening.runtime.batches) == 1
    assert listening.metric('embedmill_requests_total{method="POST",route="/search",status="499"}') == 1


@pytest.mark.parametrize("limits", [SLOW_ANSWERS], indirect=True)
def test_an_answer_that_takes_too_long_is_given_up(listening: Listening) -> None:
    listening.runtime.works.clear()
    with listening.connect() as connection:
        started = time.monotonic()
        connection.sendall(sized(QUERY))
        assert status(connection) == 503
        assert time.monotonic() - started > 0.9
    assert listening.server.live.served.lane("query_text").rows_inside <= 1


def test_so_many_requests_at_once_and_no_more(listening: Listening) -> None:
    listening.runtime.works.clear()
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(listening.connect()) for _ in range(5)]
        for number, connection in enumerate(connections):
            connection.sendall(sized(json.dumps({"text": f"item {number}"}).encode()))
        until(lambda: listening.metric('embedmill_requests_refused_total{reason="requests"}') == 2)
        with listening.connect() as probe:
            probe.sendall(b"GET /healthz HTTP/1.1\r\nhost: here\r\n\r\n")
            assert status(probe) == 200
        listening.runtime.works.set()
        assert sorted(map(status, connections)) == [200, 200, 200, 429, 429]


@pytest.mark.anyio
async def test_bodies_of_all_requests_share_a_budget() -> None:
    budget = Budget(100)
    scope: dict[str, Any] = {"headers": []}

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"x" * 60, "more_body": False}

    with budget.reading() as first:
        assert len(await first.body(scope, receive, LIMITS)) == 60
        with pytest.raises(Overloaded), budget.reading() as second:
            await second.body(scope, receive, LIMITS)
        assert budget.held_bytes == 60
    with budget.reading() as third:
        assert len(await third.body(scope, receive, LIMITS)) == 60
