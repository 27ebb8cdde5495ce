from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from starlette.testclient import TestClient
from tests.serving.conftest import load
from tests.serving.slow import Killed, Slow, slow_encoder
from tests.support.patience import PATIENCE_S

from embedmill.release.reader import Release
from embedmill.serving.app import make_app
from embedmill.serving.depends import Server
from embedmill.serving.lanes.lane import Lane
from embedmill.serving.live import Live
from embedmill.serving.watchdog import Watchdog
from embedmill.spec import ServingSpec

EVERY_S = 0.2


class Clock:
    """It goes on when a test says so, so that a model that hangs is never late by itself."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def goes_on(self) -> None:
        """By the time between two looks."""
        self.now_s += EVERY_S


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def slow(published: Release, clock: Clock) -> Iterator[tuple[Server, Slow]]:
    """A server with a watchdog, whose query encoder hangs when it is told to."""
    encoder, runtime = slow_encoder(published)
    served = load(published)
    served.lanes["query_text"].close()
    served = replace(served, lanes={**served.lanes, "query_text": Lane(encoder, ServingSpec())})
    live = Live(served)
    server = Server(live, watchdog=Watchdog(live, EVERY_S, clock))
    yield server, runtime
    assert server.watchdog is not None
    server.watchdog.stop()
    runtime.fails_with = None
    runtime.works.set()
    live.close()


@pytest.fixture
def watched(slow: tuple[Server, Slow]) -> Iterator[tuple[TestClient, Slow]]:
    server, runtime = slow
    assert server.watchdog is not None
    server.watchdog.start()
    with TestClient(make_app(server)) as client:
        yield client, runtime


def until(done: Callable[[], bool], clock: Clock | None = None) -> None:
    """While a clock that is given goes on."""
    end = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < end
        time.sleep(0.02)
        if clock is not None:
            clock.goes_on()


def test_a_model_that_hangs_is_not_ready_until_it_works_again(
    watched: tuple[TestClient, Slow], clock: Clock
) -> None:
    client, runtime = watched
    until(lambda: len(runtime.batches) > 3 and client.get("/readyz").status_code == 200)
    runtime.works.clear()
    complaint = "query_text has made no right vector"
    until(lambda: complaint in client.get("/readyz").json()["status"], clock)
    assert client.get("/readyz").status_code == 503
    assert client.get("/healthz").status_code == 200
    assert client.get("/metrics").text.rstrip().endswith("embedmill_ready 0.0")
    runtime.works.set()
    until(lambda: client.get("/readyz").status_code == 200)
    assert client.post("/search", json={"text": "item 7"}).status_code == 200


def test_a_model_that_hangs_for_long_is_to_be_restarted(
    watched: tuple[TestClient, Slow], clock: Clock
) -> None:
    client, runtime = watched
    runtime.works.clear()
    until(lambda: client.get("/healthz").status_code == 503, clock)
    assert client.get("/v2/health/live").status_code == 503


def test_a_model_whose_thread_was_killed_is_not_ready(watched: tuple[TestClient, Slow], clock: Clock) -> None:
    client, runtime = watched
    runtime.fails_with = Killed()
    until(lambda: client.get("/readyz").json()["status"] == "a model's thread is dead")
    answer = client.post("/search", json={"text": "item 8"})
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    until(lambda: client.get("/healthz").status_code == 503, clock)
    assert client.get("/v2/health/live").status_code == 503


def test_a_model_that_makes_other_vectors_is_not_ready(
    slow: tuple[Server, Slow], clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    server, _ = slow
    served = server.live.served
    probe = served.probes["query_text"]
    served = replace(served, probes={**served.probes, "query_text": replace(probe, vector=-probe.vector)})
    watchdog = Watchdog(Live(served), EVERY_S, clock)
    assert watchdog.complaint(served) == ""

    def complains() -> bool:
        watchdog.look()
        return "query_text" in watchdog.complaint(served)

    until(complains, clock)
    assert "has the cosine -1.000000" in caplog.text
