"""Who waits for a store hears of it, and does not wait long at an address where nothing ever answered."""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.store.broken_stores import Over
from tests.support.killing import start
from tests.support.mill import Mill, items
from tests.support.patience import PATIENCE_S
from tests.support.s3 import ANYBODY, as_identity
from tools.seaweedfs import free_ports

from embedmill.cli.warnings import showing_warnings
from embedmill.errors import OutcomeUnknown, StoreUnavailable
from embedmill.store import Body, Store
from embedmill.store.budget import RetryPolicy
from embedmill.store.cloud import CloudStore
from embedmill.store.faults import At, Blackout, Refused, Script
from embedmill.store.faulty import FaultyStore, VirtualClock
from embedmill.store.memory import MemoryStore
from embedmill.store.patience import TELL_AFTER_S, TELL_EVERY_S
from embedmill.store.retrying import POLICY, RetryingStore


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "embedmill.store"]


def in_a_blackout(seconds: float) -> RetryingStore:
    clock = VirtualClock()
    faulty = FaultyStore(MemoryStore("mill"), Blackout(0, seconds, clock.now))
    return RetryingStore(faulty, sleep=clock.sleep, clock=clock.now)


def test_an_outage_is_told_with_its_reason_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    in_a_blackout(60).put_if_absent("log/1", b"mine")
    first, *_, last = told(caplog)
    assert first.startswith("the store memory://mill gives no answer: connection timed out; trying again for")
    assert last.startswith("the store memory://mill answers again, after 6")
    assert all(record.levelno == logging.WARNING for record in caplog.records)


def test_a_person_hears_after_a_few_seconds_and_then_rarely(caplog: pytest.LogCaptureFixture) -> None:
    store = in_a_blackout(120)
    heard_s: list[float] = []

    class Listens(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard_s.append(store.clock())

    listener = Listens()
    logging.getLogger("embedmill.store").addHandler(listener)
    store.put("a", b"1")
    logging.getLogger("embedmill.store").removeHandler(listener)
    waits, end = heard_s[:-1], heard_s[-1]
    assert waits[0] <= TELL_AFTER_S
    assert all(later - earlier >= TELL_EVERY_S for earlier, later in itertools.pairwise(waits))
    assert len(waits) >= 120 / (2 * TELL_EVERY_S)
    assert end >= 120


def test_what_is_answered_within_seconds_is_nobodys_concern(caplog: pytest.LogCaptureFixture) -> None:
    clock = VirtualClock()
    faulty = FaultyStore(MemoryStore(), Script(At(Refused(), times=4)))
    RetryingStore(faulty, sleep=clock.sleep, clock=clock.now, random=lambda: 0.9).put("a", b"1")
    assert told(caplog) == []


class Nowhere(Over):
    """A store at an address where nothing listens, from the so-manieth call on."""

    def __init__(self, calls_before: int = 0) -> None:
        super().__init__()
        self.calls_left = calls_before

    def put_if_absent(self, key: str, body: Body) -> str:
        self.calls_left -= 1
        if self.calls_left >= 0:
            return super().put_if_absent(key, body)
        raise StoreUnavailable(f"{key}: cannot be reached", hint="check the endpoint", unreachable=True)


def seconds_until_given_up(inner: Store, error: type[StoreUnavailable], *, known: bool = False) -> float:
    clock = VirtualClock()
    store = RetryingStore(inner, known=known, sleep=clock.sleep, clock=clock.now)
    with pytest.raises(StoreUnavailable) as caught:
        list(map(store.put_if_absent, ("a", "b"), (b"1", b"1")))
    assert caught.type is error
    assert caught.value.hint
    return clock.now()


def test_an_address_where_nothing_ever_answered_is_likelier_wrong_and_given_up_soon() -> None:
    assert seconds_until_given_up(Nowhere(), StoreUnavailable) == pytest.approx(POLICY.first_contact_s)


def test_an_outage_is_outlasted_where_something_answered_before() -> None:
    for store, known in ((Nowhere(calls_before=1), False), (Nowhere(), True)):
        assert seconds_until_given_up(store, StoreUnavailable, known=known) == pytest.approx(180)


def test_who_refuses_is_there_so_that_patience_is_not_short() -> None:
    assert seconds_until_given_up(
        FaultyStore(Nowhere(), Script(At(Refused()))), OutcomeUnknown
    ) == pytest.approx(180)


def test_a_port_where_nothing_listens_is_given_up_with_what_to_check(monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = free_ports(1)
    as_identity(monkeypatch, ANYBODY, f"http://127.0.0.1:{port}")
    store = RetryingStore(CloudStore("s3://bucket"), RetryPolicy(first_contact_s=0.3))
    with pytest.raises(StoreUnavailable, match=rf"in 0\.3 s, .*:{port} cannot be reached") as caught:
        store.put_if_absent("a", b"1")
    assert caught.type is StoreUnavailable
    assert caught.value.hint == "check the endpoint in the environment"


@pytest.mark.parametrize("quiet", [False, True])
def test_commands_show_warnings_as_lines_on_stderr_unless_quiet(
    quiet: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with showing_warnings(quiet=quiet):
        logging.getLogger("embedmill.store").warning("the store %s\nwaits", "s3://mill")
    logging.getLogger("embedmill.store").warning("afterwards nobody listens")
    said = capsys.readouterr()
    assert said.err == ("" if quiet else "the store s3://mill waits\n")
    assert said.out == ""


@pytest.fixture
def spec(mill: Mill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a pipeline whose store is at whatever endpoint a test names."""
    monkeypatch.setenv("EMBEDMILL_CACHE", str(tmp_path / "cache"))
    mill.settings = {"store": "s3://bucket/mill"}
    mill.write(items(8))
    mill.open()
    return mill.root / "pipeline.yaml"


@contextlib.contextmanager
def planning(spec: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A command that has not ended when it is no longer needed."""
    process = start(["plan", str(spec), *options])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_command_at_a_wrong_endpoint_says_so_within_seconds(
    spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (port,) = free_ports(1)
    as_identity(monkeypatch, ANYBODY, f"http://127.0.0.1:{port}")
    with planning(spec) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
    assert f"the store s3://bucket/mill gives no answer: http://127.0.0.1:{port} cannot be reached; " in line


@pytest.mark.parametrize("quiet", [False, True])
def test_a_command_that_waits_tells_it_unless_quiet(
    spec: Path, monkeypatch: pytest.MonkeyPatch, quiet: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        as_identity(monkeypatch, ANYBODY, f"http://127.0.0.1:{listener.getsockname()[1]}")
        with planning(spec, *["--quiet"] * quiet) as process:
            hang_up_until_it_was_time_to_tell(listener)
            process.kill()
            said = process.communicate(timeout=PATIENCE_S)[1]
    assert ("the store s3://bucket/mill gives no answer: " in said) is not quiet
    assert quiet == (said == "")


def hang_up_until_it_was_time_to_tell(listener: socket.socket) -> None:
    """Two tries later than that: before the second one the client has judged the first one's wait."""
    listener.settimeout(PATIENCE_S)
    late, first_s = 0, math.inf
    while late < 2:
        listener.accept()[0].close()
        first_s = min(first_s, time.monotonic())
        late += time.monotonic() - first_s > TELL_AFTER_S
