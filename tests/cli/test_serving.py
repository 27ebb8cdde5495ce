from __future__ import annotations

import http.client
import json
import logging
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from tests.cli.terminal import Terminal
from tests.support.load import ServerProcess, serving
from tests.support.mill import Mill, items


def test_the_network_is_not_let_in_without_keys(tmp_path: Path, embedmill: Terminal) -> None:
    said = embedmill("serve", tmp_path / "pipeline.yaml", "--host", "0.0.0.0")  # noqa: S104 - what is refused
    assert said.code == 2
    assert "--no-auth" in said.err


def test_a_file_of_keys_that_others_can_read_is_refused(mill: Mill, embedmill: Terminal) -> None:
    mill.run(items(20))
    keys = mill.root / "keys"
    keys.write_text("0123456789abcdef\n")
    keys.chmod(0o644)
    before = logging.getLogger().handlers[:]
    said = embedmill("serve", mill.root / "pipeline.yaml", "--keys", keys)
    assert said.code == 2
    assert logging.getLogger().handlers == before, "the log of a server is left to what comes after it"
    assert f"chmod 600 {keys}" in said.err
    assert "0123456789abcdef" not in said.err


def test_an_address_that_is_taken_is_told_with_what_to_do(mill: Mill, embedmill: Terminal) -> None:
    mill.run(items(20))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = embedmill("serve", mill.root / "pipeline.yaml", "--port", str(port))
    assert said.code == 2
    assert f"cannot listen at 127.0.0.1:{port}" in said.err
    assert "choose another --host or --port" in said.err


def test_a_server_that_says_that_it_listens_does_and_asks_for_keys(mill: Mill) -> None:
    mill.run(items(20))
    keys, log = mill.root / "keys", mill.root / "log"
    keys.write_text("shop: 0123456789abcdef\n")
    keys.chmod(0o600)
    options = ("--keys", str(keys), "--log-format", "json", "--watch", "0.2")
    with serving(mill.root / "pipeline.yaml", *options, log=log) as server:
        asked = [("/release", ""), ("/release", "0123456789abcdef"), ("/readyz", "")]
        assert [status(server, path, key) for path, key in asked] == [401, 200, 200]
    assert '"key": "shop"' in log.read_text()
    assert "0123456789abcdef" not in log.read_text()


def test_every_line_of_a_json_log_is_json(mill: Mill) -> None:
    mill.run(items(20))
    command = [sys.executable, "-m", "embedmill", "serve", str(mill.root / "pipeline.yaml"), "--port", "0"]
    command += ["--log-format", "json", "--drain", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        process.terminate()
        others = process.stderr.read().splitlines()
    assert json.loads(line)["message"].startswith(f"serving release {mill.live().name}, number 1 at http://")
    assert all(json.loads(other) for other in others)


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_log_says_when_a_server_begins_to_end_and_when_it_has(mill: Mill, form: str) -> None:
    mill.run(items(20))
    command = [sys.executable, "-m", "embedmill", "serve", str(mill.root / "pipeline.yaml"), "--port", "0"]
    command += ["--log-format", form, "--drain", "0.25"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        process.stderr.readline()  # it listens
        process.terminate()
        lines = process.stderr.read().splitlines()
    said = [json.loads(line)["message"] if form == "json" else line.split(" ", 2)[2] for line in lines]
    assert said == ["told to end: not ready from now on, and answers for 0.25 s more", "ended"]
    assert process.returncode == 0


def test_what_is_published_after_a_twentieth_was_deleted_is_served(mill: Mill) -> None:
    mill.settings = {"goldens": 64}
    mill.run(items(200))
    mill.run(row for number, row in enumerate(items(200)) if number % 20)
    with serving(mill.root / "pipeline.yaml", log=mill.root / "log") as server:
        assert status(server, "/readyz", "") == 200
        with urllib.request.urlopen(f"{server.url}/release") as answer:  # noqa: S310 - http, of our own
            assert json.load(answer)["number"] == 2


def status(server: ServerProcess, path: str, key: str) -> int:
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=120)
    connection.request("GET", path, headers={"x-api-key": key} if key else {})
    found = connection.getresponse().status
    connection.close()
    return found
