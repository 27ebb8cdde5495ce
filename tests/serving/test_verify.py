"""`verify` against `embedmill serve`, over every protocol that it speaks."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from tests.serving.conftest import load
from tests.support.mill import Mill, items

from embedmill.gates.parity import verify
from embedmill.release.reader import Release
from embedmill.runtimes.remote.fields.asking import AskedServer, Protocol
from embedmill.serving.app import make_app
from embedmill.serving.depends import Server
from embedmill.serving.live import Live
from embedmill.spec.parity import ParityReport

PROTOCOLS: tuple[Protocol, ...] = ("oip", "tf_serving", "openai")


@contextlib.contextmanager
def listening(release: Release) -> Iterator[str]:
    """A server of a release in this process, with a socket; its URL."""
    live = Live(load(release))
    application = make_app(Server(live, release.content.pipeline.serving))
    server = uvicorn.Server(uvicorn.Config(application, log_config=None))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
            live.close()


def compared(release: Release, url: str, protocol: Protocol) -> ParityReport:
    with AskedServer(url, protocol) as asked:
        return verify(release, release.number or 0, asked)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_server_is_the_release_that_it_serves(published: Release, protocol: Protocol) -> None:
    with listening(published) as url:
        report = compared(published, url, protocol)
    assert report.passed, report.failures
    said = {check.message for each in report.encoders for check in each.checks if check.check == "release"}
    assert all(message.startswith(f"release {published.name}") for message in said)


def test_a_server_that_lets_nobody_ask_often_is_asked_as_often_as_it_allows(mill: Mill) -> None:
    mill.settings = {"serving": {"requests_per_minute": 360}, "goldens": 20}
    mill.run(items(20))
    with listening(mill.live()) as url:
        with AskedServer(url, "oip", limited_for_s=600) as asked:
            report = verify(mill.live(), 1, asked)
        with urllib.request.urlopen(f"{url}/metrics") as answer:  # noqa: S310 - http, of our own
            refused = [line for line in answer.read().decode().splitlines() if 'reason="rate"' in line]
    assert report.passed, report.failures
    assert refused, "it was asked more often than that"


def test_every_kind_of_input_arrives_as_the_catalog_has_it(every_input: Release) -> None:
    with listening(every_input) as url:
        reports = [compared(every_input, url, protocol) for protocol in PROTOCOLS]
    assert [report.failures for report in reports] == [(), (), ()]
    assert [bool(report.encoders[0].skipped) for report in reports] == [False, False, True]


def test_a_server_of_another_release_is_noticed_by_name_and_by_number(
    published: Release, tmp_path: Path, tiny_model: Path
) -> None:
    mill = Mill(tmp_path, tiny_model)
    mill.run(items(20))
    with listening(published) as url:
        report = compared(mill.live(), url, "oip")
    assert any("the server says embedmill-release " in failure for failure in report.failures)
    mill.run(items(21))
    with listening(published) as url:
        report = compared(mill.live(), url, "oip")
    assert any("404" in failure for failure in report.failures)


def test_a_candidate_is_published_once_embedmill_serve_has_shown_it(mill: Mill) -> None:
    command = [sys.executable, "-m", "embedmill", "serve", "{release}", "--port", "{port}", "--drain", "0"]
    settings: dict[str, Any] = {"command": command, "protocol": "oip", "ready": "/readyz", "ready_s": 60}
    mill.settings["serving"] = {"production": settings}
    mill.run(items(30))
    gates = (mill.live().folder / "gates.json").read_text()
    assert "2 encoders by oip: lowest cosine" in gates
