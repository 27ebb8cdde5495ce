"""Leases: a live holder is respected, a dead or silent one is replaced, and nothing is decided by clocks."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from embedmill.errors import StoreUnavailable
from embedmill.release.layout import Home
from embedmill.spec.documents import Lease
from embedmill.store.faults import At, Call, Fault, Faults, Late, Refused, Script
from embedmill.store.faulty import FaultyStore, InFlight
from embedmill.store.memory import MemoryStore
from embedmill.work.heartbeat import Heartbeat
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


def held_elsewhere(home: Home, lease: HeldLease) -> None:
    """Let it be a process of another machine, so that nobody can see whether it runs."""
    lease.lease = lease.lease.model_copy(update={"host": "far-away"})
    lease.etag = home.store.put(KEY, lease.lease.to_bytes())


def taken_over(home: Home, lease: HeldLease) -> None:
    """Let somebody have taken it over, of which its holder has heard nothing."""
    home.store.put(KEY, lease.lease.model_copy(update={"worker": "quick"}).to_bytes(), if_match=lease.etag)


def stopping_at(home: Home, meanwhile: Callable[[], object]) -> FaultyStore:
    """The same store, where this happens just before each delete."""

    class BeforeDelete(Faults):
        def before(self, call: Call) -> Fault | None:
            if call.verb == "delete":
                meanwhile()
            return None

    return FaultyStore(home.store, BeforeDelete())


class Together(Faults):
    """The first put waits a while for a second one, which is done after it."""

    def __init__(self) -> None:
        self.begun, self._second, self._ended = (threading.Event() for _ in range(3))

    def before(self, call: Call) -> Fault | None:
        if call.verb == "put" and self.begun.is_set():
            self._second.set()
            self._ended.wait()
        elif call.verb == "put":
            self.begun.set()
            self._second.wait(0.5)
        return None

    def after(self, call: Call) -> None:
        if call.verb == "put":
            self._ended.set()


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


def test_a_lease_that_was_taken_over_unnoticed_stays_its_new_holders(home: Home) -> None:
    slow = leases(home, "slow").claim(SHARD)
    assert slow is not None
    taken_over(home, slow)
    slow.release()
    assert home.read(Lease, KEY).worker == "quick"
    assert leases(home, "third").claim(SHARD) is None


def test_nobody_takes_over_a_lease_that_is_about_to_be_deleted(home: Home) -> None:
    """Whoever has waited for it long enough waits anew from the holder's last beat on."""
    waiting = leases(home, "waiting", expiry_s=0.0)
    got: list[HeldLease | None] = []
    first = leases(Home(stopping_at(home, lambda: got.append(waiting.claim(SHARD))), "shop"), "one")
    lease = first.claim(SHARD)
    assert lease is not None
    held_elsewhere(home, lease)
    assert waiting.claim(SHARD) is None, "it sees the lease for the first time"
    lease.release()
    assert got == [None]
    assert leases(home, "third").claim(SHARD) is not None


def test_a_delete_that_comes_too_late_costs_only_that_two_work_on_a_shard(home: Home) -> None:
    in_flight = InFlight()
    store = FaultyStore(home.store, Script(At(Late(1000), "delete")), in_flight=in_flight)
    first = leases(Home(store, "shop"), "one").claim(SHARD)
    assert first is not None
    held_elsewhere(home, first)
    other = leases(home, "other", expiry_s=0.0)
    with pytest.raises(StoreUnavailable):
        first.release()
    assert other.claim(SHARD) is None
    second = other.claim(SHARD)
    assert second is not None, "its holder was silent for long enough"
    in_flight.arrive()
    assert leases(home, "third").claim(SHARD) is not None
    second.beat()
    assert second.lost


def test_a_lease_that_is_given_up_while_it_beats_is_free(home: Home) -> None:
    """Two threads of its holder replace it at once: neither takes the other for a stranger."""
    together = Together()
    lease = leases(Home(FaultyStore(home.store, together), "shop"), "one").claim(SHARD)
    assert lease is not None
    with ThreadPoolExecutor(2) as pool:
        beats = pool.submit(lease.beat)
        together.begun.wait()
        releases = pool.submit(lease.release)
        beats.result()
        releases.result()
    assert leases(home, "other").claim(SHARD) is not None


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


class AllBegun(Faults):
    """Requests for leases wait until one for each has begun; without that they end with an error."""

    def __init__(self, leases: int) -> None:
        self.all_begun = threading.Barrier(leases, timeout=120)

    def before(self, call: Call) -> Fault | None:
        if call.verb in ("put", "delete") and "/leases/" in call.key:
            self.all_begun.wait()
        return None


def manyfold() -> MemoryStore:
    """A store that takes several calls at a time, as those that wait for a network or a disk do."""
    store = MemoryStore()
    store.transfers = 8
    return store


def with_leases(store: FaultyStore, count: int) -> Heartbeat:
    home = Home(store, "shop")
    heartbeat = Heartbeat(home, RUN, "me", None, threaded=False)
    for number in range(count):
        lease = leases(home, "me").claim(f"{number:05d}")
        assert lease is not None
        heartbeat.hold(lease)
    return heartbeat


def test_leases_are_given_back_beside_each_other() -> None:
    store = FaultyStore(manyfold(), AllBegun(4))
    with_leases(store, 4).give_up(all_of_them=True)
    assert not list(store.inner.list("shop/runs/run/leases"))


def test_a_lease_that_cannot_be_given_back_keeps_no_other() -> None:
    class Silent(Faults):
        def before(self, call: Call) -> Fault | None:
            return Refused() if call.verb == "put" and call.key == KEY else None

    store = FaultyStore(manyfold(), Silent())
    with_leases(store, 4).give_up(all_of_them=True)
    assert [info.key for info in store.inner.list("shop/runs/run/leases")] == [KEY]
