"""What Ray raises is told in a line that a person can read."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from embedmill.engines.ray.bridge import Bridge, Connection
from embedmill.engines.ray.refusals import WRONG_TOKEN, not_listening, refusal
from embedmill.errors import EngineUnavailable

REFUSED = """\
Failed to connect to Ray cluster at 10.0.0.1:6379: Failed to connect to GCS. Last connection error:
Traceback (most recent call last):
  File "node.py", line 996, in _init_gcs_client
    client = GcsClient(
ray.exceptions.AuthenticationError: InvalidAuthToken"""
UNKNOWN = "RpcError: DNS resolution failed for head:6379"
TRACEBACK = """\
Traceback (most recent call last):
  File "loop.py", line 41, in __init__
    raise ValueError("bad")"""


def test_a_traceback_in_rays_own_words_is_read_and_not_shown() -> None:
    found = refusal(ConnectionError(REFUSED))
    assert (found.kind, found.hint) == ("refused", WRONG_TOKEN)
    said = (
        "Failed to connect to Ray cluster at 10.0.0.1:6379: Failed to connect to GCS. Last connection error: "
    )
    assert found.words == f"{said}ray.exceptions.AuthenticationError: InvalidAuthToken"


def test_what_a_traceback_ends_with_is_shown_for_it_may_be_the_only_reason() -> None:
    found = refusal(ConnectionError(REFUSED.replace("AuthenticationError: InvalidAuthToken", UNKNOWN)))
    assert found.words.endswith(f"GCS. Last connection error: ray.exceptions.{UNKNOWN}")
    assert (found.kind, "node.py" in found.words) == ("unavailable", False)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"The actor died\n{TRACEBACK}\nValueError: bad", "The actor died ValueError: bad"),
        (f"The actor died: {TRACEBACK}\n\nValueError: bad\n  at 3", "The actor died: ValueError: bad at 3"),
        (
            f"one\n  {TRACEBACK.replace(chr(10), chr(10) + '  ')}\n  ValueError: bad\ntwo",
            "one ValueError: bad two",
        ),
        (f"The actor died: {TRACEBACK}", "The actor died"),
    ],
)
def test_what_an_error_came_from_is_shown_beside_its_traceback(text: str, shown: str) -> None:
    error = RuntimeError(text)
    error.__cause__ = OSError("No space left on device")
    assert refusal(error).words == f"{shown}: OSError: No space left on device"


def test_other_words_are_shown_as_they_are() -> None:
    assert refusal(ConnectionError("the head\nis away")).words == "the head is away"


@contextmanager
def nobody_there() -> Iterator[str]:
    """An address of this machine where nothing listens, and nothing else can."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


def test_who_waits_for_a_head_hears_of_it_before_the_end(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whatever it takes to speak to Ray, it does not answer here: nobody has been reached."""
    silent = tmp_path / "python"
    silent.write_text("#!/bin/sh\nexec sleep 600\n")
    silent.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(silent))
    with nobody_there() as address, pytest.raises(EngineUnavailable, match="no answer within 5 s"):
        Bridge(Connection(address), connect_s=5.0).ask(5.0, "nodes")
    (told,) = [record.getMessage() for record in caplog.records if record.name == "embedmill.engines"]
    assert told.startswith(f"Ray at {address} gives no answer: connection refused; trying again for up to ")


def test_something_that_listens_is_told_from_nothing() -> None:
    with nobody_there() as address:
        assert not_listening(f"ray://{address}", 5.0) == "connection refused"
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not_listening(f"127.0.0.1:{server.getsockname()[1]}", 5.0) == ""
