"""A faulty store does what it is told, the same for the same seed, and what it is not told it does not."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from tests.support.stores import in_threads, keys

from embedmill.errors import StoreFull, StoreUnavailable
from embedmill.store import Store
from embedmill.store.faults import (
    AnswerLost,
    At,
    Blackout,
    Call,
    Crash,
    Fault,
    Faults,
    FirstOf,
    Full,
    Late,
    Refused,
    Script,
    SeededFaults,
    Slow,
)
from embedmill.store.faulty import Crashed, FaultyStore, InFlight, VirtualClock
from embedmill.store.memory import MemoryStore

# Single faults


@pytest.mark.parametrize("fault", [Refused("429 Too Many Requests"), Late(10**9)])
def test_what_is_refused_is_not_done(fault: Fault) -> None:
    store = FaultyStore(MemoryStore(), Script(At(fault)))
    with pytest.raises(StoreUnavailable, match=r"^a: (429 Too Many Requests|timed out)$"):
        store.put("a", b"1")
    assert keys(store) == []


def test_what_only_loses_its_answer_is_done() -> None:
    store = FaultyStore(MemoryStore(), Script(At(AnswerLost(), times=3)))
    with pytest.raises(StoreUnavailable, match="connection reset by peer"):
        store.put("a", b"1")
    with pytest.raises(StoreUnavailable):
        store.put_if_absent("b", b"1")
    assert keys(store.inner) == ["a", "b"]
    with pytest.raises(StoreUnavailable):
        store.delete("a")
    assert keys(store) == ["b"]


def test_an_error_may_be_the_answer_that_is_lost() -> None:
    store = FaultyStore(MemoryStore(), Script(At(AnswerLost(), times=2)))
    store.inner.put("a", b"1")
    with pytest.raises(StoreUnavailable):
        store.put_if_absent("a", b"2")
    with pytest.raises(StoreUnavailable):
        store.get("none")


def test_a_late_write_arrives_before_its_call_and_replaces_what_was_written_meanwhile() -> None:
    store = FaultyStore(MemoryStore(), Script(At(Late(3))))
    with pytest.raises(StoreUnavailable):
        store.put("a", b"late")
    store.put("a", b"meanwhile")
    assert store.get("a") == b"meanwhile"
    assert store.get("a") == b"late"


def test_a_late_create_vanishes_if_the_key_is_taken_by_then() -> None:
    store = FaultyStore(MemoryStore(), Script(At(Late(2))))
    with pytest.raises(StoreUnavailable):
        store.put_if_absent("a", b"late")
    store.put_if_absent("a", b"hers")
    assert store.get("a") == b"hers"


def test_a_late_file_has_the_bytes_that_it_had_when_it_was_sent(tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(b"then")
    store = FaultyStore(MemoryStore(), Script(At(Late(1))))
    with pytest.raises(StoreUnavailable):
        store.put("a", tmp_path / "body")
    (tmp_path / "body").unlink()
    assert store.get("a") == b"then"


def test_a_full_store_can_be_read() -> None:
    store = FaultyStore(MemoryStore(), Script(At(Full(), times=10)))
    store.inner.put("a", b"1")
    with pytest.raises(StoreFull):
        store.put("a", b"2")
    assert store.get("a") == b"1"


def test_a_slow_call_takes_its_time_and_is_done() -> None:
    clock = VirtualClock()
    store = FaultyStore(MemoryStore(), Script(At(Slow(7))), sleep=clock.sleep)
    store.put("a", b"1")
    assert clock.now() == 7
    assert store.get("a") == b"1"


def test_a_list_that_loses_its_answer_breaks_off_half_way() -> None:
    store = FaultyStore(MemoryStore(), Script(At(AnswerLost(), "list")))
    for key in "abcd":
        store.put(key, b"")
    listing = store.list("")
    assert [next(listing).key for _ in range(2)] == ["a", "b"]
    with pytest.raises(StoreUnavailable):
        next(listing)
    assert keys(store) == ["a", "b", "c", "d"]


# Crashes


def test_a_crash_is_no_exception_that_code_handles_and_ends_all_calls_of_the_process() -> None:
    store = FaultyStore(MemoryStore(), Script(At(Crash("before"), "put")))
    assert not issubclass(Crashed, Exception)
    with pytest.raises(Crashed, match="at call 1: put a"):
        store.put("a", b"1")
    for call in (lambda: store.get("a"), lambda: store.delete("a"), lambda: keys(store)):
        with pytest.raises(Crashed):
            call()
    assert keys(store.inner) == []


def test_after_a_crash_after_a_write_the_write_is_there() -> None:
    store = FaultyStore(MemoryStore(), Script(At(Crash("after"), "put_if_absent", nth=2)))
    store.put_if_absent("a", b"1")
    with pytest.raises(Crashed):
        store.put_if_absent("b", b"1")
    assert keys(store.inner) == ["a", "b"]


def test_a_crash_after_a_call_that_fails_is_a_crash() -> None:
    with pytest.raises(Crashed):
        FaultyStore(MemoryStore(), Script(At(Crash("after")))).get("none")


def test_a_thread_that_is_held_up_while_its_process_dies_does_nothing_more() -> None:
    class DiesMeanwhile(Script):
        def before(self, call: Call) -> Fault | None:
            if call.key == "held up":
                with contextlib.suppress(Crashed):
                    store.get("deadly")
            return super().before(call)

    store = FaultyStore(MemoryStore(), DiesMeanwhile(At(Crash(), key="deadly")))
    with pytest.raises(Crashed):
        store.put("held up", b"1")
    assert keys(store.inner) == []


def test_what_a_dead_process_had_sent_may_arrive_while_others_work() -> None:
    inner, in_flight = MemoryStore(), InFlight()
    dead = FaultyStore(inner, Script(At(Late(2), nth=1), At(Crash(), nth=2)), in_flight=in_flight)
    other = FaultyStore(inner, in_flight=in_flight)
    with pytest.raises(StoreUnavailable):
        dead.put_if_absent("a", b"late")
    with pytest.raises(Crashed):
        dead.get("a")
    assert other.get("a") == b"late"


def test_all_that_is_in_flight_can_be_let_arrive() -> None:
    store = FaultyStore(MemoryStore(), Script(At(Late(10**9), times=2)))
    for key in "ab":
        with pytest.raises(StoreUnavailable):
            store.put(key, b"")
    store.in_flight.arrive()
    assert keys(store) == ["a", "b"]


# Which calls


def test_a_script_counts_the_calls_that_fit_and_its_first_line_decides() -> None:
    script = Script(
        At(Refused("first"), "put", "*/log/*", nth=2),
        At(Refused("second"), "put", nth=2, times=2),
    )
    store = FaultyStore(MemoryStore(), script)
    said = []
    for key in ("p/log/1", "p/log/2", "p/x", "p/log/3"):
        try:
            store.put(key, b"")
            said.append("")
        except StoreUnavailable as error:
            said.append(error.message.split(": ")[1])
        store.head("p/log/1")
    assert said == ["", "first", "second", ""]


def test_a_blackout_lasts_from_call_to_call_or_second_to_second_and_may_be_partial() -> None:
    clock = VirtualClock()
    by_call = FaultyStore(MemoryStore(), Blackout(2, 4))
    by_time = FaultyStore(MemoryStore(), Blackout(2, 4, clock.now, verbs={"put"}))
    for store in (by_call, by_time):
        store.inner.put("a", b"1")
    answers = []
    for _ in range(5):
        answers.append(
            [answered(by_call), answered(by_time), answered(by_time, lambda store: store.put("a", b""))]
        )
        clock.sleep(1)
    assert [row[0] for row in answers] == [True, False, False, True, True]
    assert [row[1] for row in answers] == [True] * 5
    assert [row[2] for row in answers] == [True, True, False, False, True]


def answered(store: Store, call: Callable[[Store], object] = lambda store: store.get("a")) -> bool:
    try:
        call(store)
    except StoreUnavailable:
        return False
    return True


RATES: dict[Fault, float] = {Refused(): 0.1, AnswerLost(): 0.1, Late(2): 0.1, Slow(0): 0.1}


def history(seed: int) -> tuple[list[tuple[Call, Fault | None]], list[str]]:
    """What was decided in 200 calls, and what is in the store then."""
    store = FaultyStore(MemoryStore(), SeededFaults(seed, RATES))
    for number in range(200):
        write = store.delete if number % 3 else partial(store.put, body=b"")
        answered(store, lambda _, key=f"{number % 7}", write=write: write(key))  # type: ignore[misc]
    return store.trace, keys(store.inner)


@pytest.mark.soak(quick=3, large=50)
def test_one_seed_gives_one_history(seed: int) -> None:
    assert history(seed) == history(seed)
    assert history(seed)[0] != history(seed + 1)[0]


def test_faults_come_as_often_as_they_are_rated_and_only_to_their_verbs() -> None:
    store = FaultyStore(MemoryStore(), SeededFaults(1, RATES, verbs={"get"}))
    store.put("a", b"")
    for _ in range(2000):
        answered(store)
        store.head("a")
    met = Counter((call.verb, fault) for call, fault in store.trace)
    assert met["head", None] == 2000
    for fault, rate in RATES.items():
        assert met["get", fault] == pytest.approx(2000 * rate, rel=0.25)


def test_the_first_of_several_faults_decides_and_all_count() -> None:
    script = Script(At(Refused("script"), nth=2))
    store = FaultyStore(MemoryStore(), FirstOf(Script(At(Refused("first"))), script))
    for said in ("first", "script"):
        with pytest.raises(StoreUnavailable, match=said):
            store.put("a", b"")
    store.put("a", b"")


def test_a_call_with_what_is_no_key_never_reaches_the_faults() -> None:
    store = FaultyStore(MemoryStore(), Blackout(0, 10**9))
    with pytest.raises(Exception, match="is not a key"):
        store.get("../a")
    assert store.trace == []


# Hooks


class TurnByTurn(Faults):
    """Lets two threads make their calls in turn: what a simulation does, at its smallest."""

    def __init__(self) -> None:
        self.turn = threading.Condition()
        self.next = 0
        self.order: list[str] = []
        self.inside = 0

    def before(self, call: Call) -> Fault | None:
        mine = int(call.key)
        with self.turn:
            assert self.turn.wait_for(lambda: self.next == mine, timeout=30)
            self.inside += 1
            assert self.inside == 1
            self.order.append(call.key)
        return Refused() if len(self.order) % 5 == 0 else None

    def after(self, call: Call) -> None:
        with self.turn:
            self.inside -= 1
            self.next = 1 - self.next
            self.turn.notify_all()


def test_hooks_may_order_the_calls_of_threads() -> None:
    faults = TurnByTurn()
    store = FaultyStore(MemoryStore(), faults)

    def work(number: int) -> None:
        for _ in range(20):
            answered(store, lambda store: store.put(f"{number}", b""))

    threads = [threading.Thread(target=work, args=[number]) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert faults.order == ["0", "1"] * 20


def test_threads_may_share_it() -> None:
    store = FaultyStore(MemoryStore(), SeededFaults(1, RATES))
    in_threads(lambda number: [answered(store, lambda store: store.put(f"{number}", b"")) for _ in range(50)])
    assert sorted(call.number for call, _ in store.trace) == list(range(1, 16 * 50 + 1))


def test_threads_that_sleep_side_by_side_do_not_add_up_and_time_never_goes_back() -> None:
    clock = VirtualClock()
    clock.sleep(3)
    clock.sleep(0)
    assert clock.now() == 3
