"""Leases: a live holder is respected, a dead or silent one is replaced, and nothing is decided by clocks."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from embedmill.release.layout import Home
from embedmill.spec.documents import Lease
from embedmill.store.memory import MemoryStore
from embedmill.work.leases import HeldLease, Leases, process_start

RUN, SHARD = "run", "00000"
KEY = "shop/runs/run/leases/00000.json"


@pytest.fixture
def home() -> Home:
    return Home(MemoryStore(), "shop")


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """Another process of this machine."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def leases(home: Home, worker: str, expiry_s: float = 30.0) -> Leases:
    return Leases(home, RUN, worker, expiry_s)


def held_by(home: Home, *, host: str | None = None, pid: int | None = None, started: float = 0.0) -> None:
    """A lease that some process took, of this machine or another."""
    mine = leases(home, "someone").claim(SHARD)
    assert mine is not None
    changes = {"host": host or mine.lease.host, "pid": pid or mine.lease.pid, "process_started": started}
    home.store.put(KEY, mine.lease.model_copy(update=changes).to_bytes())


def beat_elsewhere(home: Home) -> None:
    lease = home.read(Lease, KEY)
    home.store.put(KEY, lease.model_copy(update={"beat": lease.beat + 1}).to_bytes())


def test_a_free_shard_is_taken_and_a_taken_one_is_not(home: Home) -> None:
    lease = leases(home, "one").claim(SHARD)
    assert lease is not None
    assert leases(home, "other").claim(SHARD) is None
    assert leases(home, "other").claim("00001") is not None
    written = home.read(Lease, KEY)
    assert (written.worker, written.shard, written.pid) == ("one", SHARD, os.getpid())


def test_of_many_workers_at_once_one_gets_the_shard(home: Home) -> None:
    with ThreadPoolExecutor(16) as pool:
        got = list(pool.map(lambda n: leases(home, f"w{n}").claim(SHARD), range(32)))
    assert sum(lease is not None for lease in got) == 1


def test_a_process_of_this_machine_that_runs_is_respected(
    home: Home, sleeper: subprocess.Popen[bytes]
) -> None:
    held_by(home, pid=sleeper.pid, started=process_start(sleeper.pid) or 0.0)
    assert leases(home, "other").claim(SHARD) is None


def test_a_process_of_this_machine_that_is_gone_is_replaced_at_once(
    home: Home, sleeper: subprocess.Popen[bytes]
) -> None:
    held_by(home, pid=sleeper.pid, started=process_start(sleeper.pid) or 0.0)
    sleeper.kill()
    sleeper.wait()
    assert leases(home, "other").claim(SHARD) is not None
    assert home.read(Lease, KEY).worker == "other"


def test_a_process_that_was_killed_and_not_waited_for_is_gone_too(
    home: Home, sleeper: subprocess.Popen[bytes]
) -> None:
    """A zombie keeps its number until its parent looks; it holds nothing."""
    held_by(home, pid=sleeper.pid, started=process_start(sleeper.pid) or 0.0)
    sleeper.kill()
    deadline = time.monotonic() + 120
    while leases(home, "other").claim(SHARD) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_process_whose_number_another_has_now_is_gone(home: Home) -> None:
    held_by(home, pid=os.getpid(), started=1.0)
    assert leases(home, "other").claim(SHARD) is not None


def test_a_holder_on_another_machine_is_replaced_only_when_it_is_silent_for_long(home: Home) -> None:
    held_by(home, host="far-away", pid=2**22 + 1)
    other = leases(home, "other", expiry_s=0.2)
    assert other.claim(SHARD) is None
    time.sleep(0.25)
    assert other.claim(SHARD) is not None
    assert home.read(Lease, KEY).worker == "other"


def test_every_beat_starts_the_wait_anew(home: Home) -> None:
    held_by(home, host="far-away")
    other = leases(home, "other", expiry_s=0.3)
    for _ in range(4):
        assert other.claim(SHARD) is None
        time.sleep(0.15)
        beat_elsewhere(home)
    assert other.claim(SHARD) is None


def test_who_has_just_come_waits_the_whole_time_itself(home: Home) -> None:
    """Two clocks are never compared: what others have waited does not count."""
    held_by(home, host="far-away")
    time.sleep(0.3)
    assert leases(home, "other", expiry_s=0.2).claim(SHARD) is None


def test_a_holder_that_was_replaced_notices_and_beats_no_more(home: Home) -> None:
    slow = leases(home, "slow").claim(SHARD)
    assert slow is not None
    held = HeldLease(home, KEY, slow.lease, slow.etag)
    held.beat()
    assert (held.lost, home.read(Lease, KEY).beat) == (False, 1)
    home.store.put(KEY, slow.lease.model_copy(update={"worker": "quick"}).to_bytes())
    held.beat()
    assert held.lost
    held.beat()
    assert home.read(Lease, KEY).worker == "quick"


def test_a_holder_whose_lease_was_deleted_notices(home: Home) -> None:
    lease = leases(home, "one").claim(SHARD)
    assert lease is not None
    home.store.delete(KEY)
    lease.beat()
    assert lease.lost
    assert leases(home, "other").claim(SHARD) is not None


def test_a_lease_that_is_given_up_is_free_at_once_unless_another_has_it_by_now(home: Home) -> None:
    first = leases(home, "one").claim(SHARD)
    assert first is not None
    first.release()
    second = leases(home, "other").claim(SHARD)
    assert second is not None
    first.beat()
    first.release()
    assert home.read(Lease, KEY).worker == "other"


def test_of_two_that_replace_a_dead_holder_one_succeeds(home: Home) -> None:
    held_by(home, pid=os.getpid(), started=1.0)
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda n: leases(home, f"w{n}").claim(SHARD), range(16)))
    assert sum(lease is not None for lease in got) == 1


def test_a_lease_that_cannot_be_read_is_waited_out(home: Home) -> None:
    """Leases save work and decide nothing: a damaged one must not stop a run."""
    home.store.put(KEY, b"{")
    other = leases(home, "other", expiry_s=0.1)
    assert other.claim(SHARD) is None
    time.sleep(0.15)
    assert other.claim(SHARD) is not None


def test_processes_have_a_start_and_others_have_none() -> None:
    assert process_start(os.getpid()) == process_start(os.getpid())
    assert process_start(os.getpid()) is not None
    assert process_start(2**22 + 1) is None
