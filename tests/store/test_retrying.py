"""A retrying store makes of a store that gives no answers one that does, and never a wrong one."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.stores import THREADS, in_threads, keys

from embedmill.errors import (
    ObjectExists,
    ObjectMissing,
    OutcomeUnknown,
    PreconditionFailed,
    StoreError,
    StoreUnavailable,
)
from embedmill.store import Copies, Store
from embedmill.store.budget import RetryPolicy
from embedmill.store.faults import (
    AnswerLost,
    At,
    Blackout,
    Call,
    Fault,
    Faults,
    Late,
    Refused,
    Script,
    SeededFaults,
    Verb,
)
from embedmill.store.faulty import FaultyStore, VirtualClock
from embedmill.store.local import LocalStore
from embedmill.store.memory import MemoryStore
from embedmill.store.retrying import POLICY, RetryingStore

ANY: dict[str, Fault] = {
    "refused": Refused(),
    "answer lost": AnswerLost(),
    "arrives before the next call": Late(1),
    "arrives before the second call": Late(2),
    "arrives before the third call": Late(3),
    "never arrives": Late(10**9),
}


class Bench:
    """A retrying store, what is under it, and the time that passed."""

    def __init__(self, faults: Faults, policy: RetryPolicy = POLICY, inner: Store | None = None) -> None:
        self.inner = inner or MemoryStore()
        self.clock = VirtualClock()
        self.faulty = FaultyStore(self.inner, faults)
        self.store = self.another(policy)

    def another(self, policy: RetryPolicy = POLICY) -> RetryingStore:
        draw = random.Random(5).random
        return RetryingStore(self.faulty, policy, sleep=self.clock.sleep, clock=self.clock.now, random=draw)

    @property
    def calls(self) -> Counter[str]:
        return Counter(call.verb for call, _ in self.faulty.trace)


# Creating


@pytest.mark.parametrize("fault", ANY.values(), ids=ANY)
@pytest.mark.parametrize("body", ["bytes", "file"])
def test_a_create_without_an_answer_is_won(fault: Fault, body: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    bench = Bench(Script(At(fault, "put_if_absent")))
    etag = bench.store.put_if_absent("log/1", b"mine" if body == "bytes" else tmp_path / "file")
    bench.faulty.in_flight.arrive()
    assert bench.inner.get("log/1") == b"mine"
    assert bench.inner.head("log/1").etag == etag


@pytest.mark.parametrize("fault", ANY.values(), ids=ANY)
def test_a_create_without_an_answer_is_lost_if_another_was_faster(fault: Fault) -> None:
    bench = Bench(Script(At(fault, "put_if_absent")))
    bench.inner.put_if_absent("log/1", b"hers")
    with pytest.raises(ObjectExists, match=r"^log/1: "):
        bench.store.put_if_absent("log/1", b"mine")
    bench.faulty.in_flight.arrive()
    assert bench.inner.get("log/1") == b"hers"


def test_an_answer_may_be_lost_at_every_look_as_well() -> None:
    faults = Script(At(AnswerLost(), times=5))
    bench = Bench(faults)
    assert bench.store.put_if_absent("a", b"mine") == bench.inner.head("a").etag


def test_our_bytes_under_the_key_are_ours_even_if_an_earlier_process_created_them() -> None:
    bench = Bench(Script())
    etag = bench.inner.put_if_absent("a", b"mine")
    assert bench.store.put_if_absent("a", b"mine") == etag
    for other in (b"hers", b"longer"):
        with pytest.raises(ObjectExists):
            bench.store.put_if_absent("a", other)


def test_what_landed_is_not_sent_again() -> None:
    bench = Bench(Script(At(AnswerLost(), "put_if_absent")))
    bench.store.put_if_absent("a", b"mine")
    assert bench.calls["put_if_absent"] == 1


class Meanwhile(Script):
    """Somebody does something just before the n-th call of a verb."""

    def __init__(self, verb: Verb, nth: int, act: Callable[[], object], *lines: At) -> None:
        super().__init__(*lines)
        self.act = act
        self.left = {verb: nth}

    def before(self, call: Call) -> Fault | None:
        self.left[call.verb] = self.left.get(call.verb, 0) - 1
        if self.left[call.verb] == 0:
            self.act()
        return super().before(call)


def test_what_was_ours_and_deleted_is_created_again_rather_than_left_open() -> None:
    inner = MemoryStore()
    arrives_late = At(Late(2), "put_if_absent")  # just before it is sent again
    bench = Bench(Meanwhile("head", 2, lambda: inner.delete("a"), arrives_late), inner=inner)
    assert bench.store.put_if_absent("a", b"mine") == inner.head("a").etag
    assert bench.calls["put_if_absent"] == 3


def test_what_another_had_and_deleted_since_was_lost() -> None:
    inner = MemoryStore()
    inner.put("a", b"hers")
    bench = Bench(Meanwhile("head", 1, lambda: inner.delete("a")), inner=inner)
    with pytest.raises(ObjectExists):
        bench.store.put_if_absent("a", b"mine")


def test_the_etag_is_that_of_our_bytes_even_if_they_replace_anothers_of_that_size_just_then() -> None:
    inner = MemoryStore()
    inner.put("a", b"hers")
    bench = Bench(Meanwhile("get", 1, lambda: inner.put("a", b"mine")), inner=inner)
    assert bench.store.put_if_absent("a", b"mine") == inner.head("a").etag


def test_a_large_file_is_compared_where_it_lies_and_not_read_into_memory(tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(bytes(3_000_000))
    bench = Bench(Script(At(AnswerLost(), "put_if_absent")), inner=LocalStore(tmp_path / "store"))
    assert bench.store.put_if_absent("a", tmp_path / "body") == bench.inner.head("a").etag
    assert bench.calls["get"] == 0


def test_a_file_that_vanishes_meanwhile_is_an_error_and_neither_won_nor_lost(tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(b"mine")

    class Unlinks(Script):
        def after(self, call: Call) -> None:
            body.unlink(missing_ok=True)

    with pytest.raises(StoreError, match="body") as caught:
        Bench(Unlinks(At(AnswerLost(), "put_if_absent"))).store.put_if_absent("a", body)
    assert not isinstance(caught.value, ObjectExists | ObjectMissing | StoreUnavailable)


@pytest.mark.soak(quick=15, large=500)
def test_of_many_creators_without_answers_exactly_one_wins(seed: int) -> None:
    rates: dict[Fault, float] = {
        AnswerLost(): 0.2,
        Refused(): 0.1,
        Late(1): 0.05,
        Late(7): 0.1,
        Late(40): 0.05,
    }
    bench = Bench(SeededFaults(seed, rates), RetryPolicy(deadline_s=1e6))
    etags = {}

    def create(number: int) -> None:
        for round_ in range(6):
            try:
                etag = bench.store.put_if_absent(f"log/{round_}", f"{number:02}".encode())
            except ObjectExists:
                continue
            etags[round_, number] = etag

    in_threads(create)
    bench.faulty.in_flight.arrive()
    for round_ in range(6):
        key = f"log/{round_}"
        (winner,) = [number for of, number in etags if of == round_]
        assert bench.inner.get(key) == f"{winner:02}".encode()
        assert bench.inner.head(key).etag == etags[round_, winner]


@pytest.mark.soak(quick=10, large=300)
def test_a_process_that_starts_again_finds_what_it_had_created(seed: int) -> None:
    policy = RetryPolicy(deadline_s=0.0)  # one try, and then it is left open
    bench = Bench(SeededFaults(seed, {AnswerLost(): 0.2, Late(2): 0.2, Refused(): 0.1}), policy)
    for number in range(20):
        key, mine = f"log/{number}", f"mine {number}".encode()
        while True:
            try:
                etag = bench.another(policy).put_if_absent(key, mine)
                break
            except OutcomeUnknown:
                continue
        assert bench.inner.get(key) == mine
        assert bench.inner.head(key).etag == etag


# Deadlines


def test_at_the_deadline_a_create_is_unknown_and_nothing_was_deleted() -> None:
    bench = Bench(Blackout(0, 10**9))
    with pytest.raises(
        OutcomeUnknown, match=r"^log/1: whether it was created is unknown; \d+ tries in 180 s"
    ):
        bench.store.put_if_absent("log/1", b"mine")
    assert bench.clock.now() == pytest.approx(180)
    assert set(bench.calls) <= {"put_if_absent", "head"}


CALLS: dict[str, Callable[[RetryingStore], object]] = {
    "get": lambda store: store.get("a"),
    "head": lambda store: store.head("a"),
    "list": lambda store: keys(store),
    "put": lambda store: store.put("a", b"1"),
    "put if match": lambda store: store.put("a", b"1", if_match="x"),
    "delete": lambda store: store.delete("a"),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_at_the_deadline_any_other_call_has_had_no_answer(call: Callable[[RetryingStore], object]) -> None:
    bench = Bench(Blackout(0, 10**9))
    with pytest.raises(StoreUnavailable, match=r"no answer from memory:\S*; .* timed out") as caught:
        call(bench.store)
    assert caught.value.message.count("a: ") <= 1
    assert not caught.value.message.startswith(": ")
    assert not isinstance(caught.value, OutcomeUnknown)
    assert bench.clock.now() == pytest.approx(180)


def test_a_copy_at_the_deadline_is_unknown_too() -> None:
    store = Bench(Blackout(0, 10**9)).store
    assert isinstance(store, Copies)
    with pytest.raises(OutcomeUnknown):
        store.copy_if_absent("a", "b")


@pytest.mark.parametrize("blackout_s", [1, 60, 150])
def test_a_blackout_is_survived_and_ends_soon_after_the_store_is_back(blackout_s: int) -> None:
    clock = VirtualClock()
    faulty = FaultyStore(MemoryStore(), Blackout(0, blackout_s, clock.now))
    store = RetryingStore(faulty, sleep=clock.sleep, clock=clock.now)
    store.put_if_absent("a", b"mine")
    assert blackout_s <= clock.now() <= blackout_s + POLICY.longest_wait_s
    assert len(faulty.trace) < 10 + blackout_s


def test_threads_survive_a_blackout_together_with_few_requests() -> None:
    clock = VirtualClock()
    faulty = FaultyStore(MemoryStore(), Blackout(0, 60, clock.now))
    policy = RetryPolicy(deadline_s=1e6)
    store = RetryingStore(faulty, policy, sleep=clock.sleep, clock=clock.now)
    in_threads(lambda number: store.put_if_absent(f"{number}", b"mine"))
    assert len(keys(store)) == THREADS
    in_the_dark = sum(fault is not None for _, fault in faulty.trace)
    assert in_the_dark <= THREADS + policy.burst + 60 * policy.trickle_per_s + THREADS


# The budget


@pytest.mark.soak(quick=3, large=100)
def test_a_store_that_fails_a_tenth_of_its_calls_sees_less_than_twice_the_calm_count(seed: int) -> None:
    def calls(faults: Faults) -> tuple[int, int, float]:
        bench = Bench(faults)
        for number in range(500):
            key = f"{number:03}"
            bench.store.put_if_absent(key, b"mine")
            bench.store.put(key, b"next", if_match=bench.store.head(key).etag)
            bench.store.get(key)
            bench.store.delete(key)
        retries = sum(fault is not None for _, fault in bench.faulty.trace)
        return len(bench.faulty.trace), retries, bench.clock.now()

    calm, _, _ = calls(Script())
    rates: dict[Fault, float] = {AnswerLost(): 0.05, Refused(): 0.05}
    troubled, retries, waited_s = calls(SeededFaults(seed, rates))
    assert calm < troubled < 1.5 * calm
    assert waited_s < 2 * POLICY.first_wait_s * retries  # backing off, and not held up by the budget


@pytest.mark.parametrize("rate", [0.5, 0.8])
def test_a_store_that_mostly_fails_sees_twice_the_calls_that_succeed_and_a_trickle(rate: float) -> None:
    hasty = RetryPolicy(deadline_s=1e6, longest_wait_s=0.001)  # held up by the budget alone
    bench = Bench(SeededFaults(3, {Refused(): rate}), hasty)
    done = 200
    for number in range(done):
        bench.store.put_if_absent(f"{number}", b"mine")
    in_hand = hasty.burst + bench.clock.now() * hasty.trickle_per_s
    assert len(bench.faulty.trace) <= 2 * (done + in_hand)


# Replacing


@pytest.mark.parametrize("fault", ANY.values(), ids=ANY)
def test_a_replacement_without_an_answer_is_done(fault: Fault) -> None:
    bench = Bench(Script(At(fault, "put")))
    first = bench.inner.put("lease", b"1")
    etag = bench.store.put("lease", b"2", if_match=first)
    bench.faulty.in_flight.arrive()
    assert bench.inner.get("lease") == b"2"
    assert bench.inner.head("lease").etag == etag


@pytest.mark.parametrize("fault", ANY.values(), ids=ANY)
def test_a_replacement_of_what_another_has_replaced_fails(fault: Fault) -> None:
    bench = Bench(Script(At(fault, "put")))
    first = bench.inner.put("lease", b"1")
    bench.inner.put("lease", b"hers")
    for key in ("lease", "missing"):
        with pytest.raises(PreconditionFailed):
            bench.store.put(key, b"mine", if_match=first)
    bench.faulty.in_flight.arrive()
    assert bench.inner.get("lease") == b"hers"
    assert keys(bench.inner) == ["lease"]


def test_equal_bytes_do_not_excuse_a_stale_etag_that_was_refused_at_once() -> None:
    bench = Bench(Script())
    first = bench.inner.put("lease", b"1")
    bench.inner.put("lease", b"2")
    with pytest.raises(PreconditionFailed):
        bench.store.put("lease", b"2", if_match=first)


# Reading, listing, copying


@pytest.mark.parametrize("verb", ["get", "head", "put", "delete"])
def test_calls_are_repeated(verb: Verb) -> None:
    bench = Bench(Script(At(Refused(), verb, times=3)))
    bench.inner.put("a", b"1")
    method = {"put": lambda key: bench.store.put(key, b"2")}.get(verb, getattr(bench.store, verb))
    method("a")
    assert bench.calls[verb] == 4


def test_an_error_that_is_an_answer_is_not_repeated() -> None:
    bench = Bench(Script())
    with pytest.raises(ObjectMissing):
        bench.store.get("a")
    assert bench.calls["get"] == 1


def test_a_list_that_breaks_off_goes_on_where_it_was_and_repeats_nothing() -> None:
    bench = Bench(Script(At(AnswerLost(), "list", times=4)))
    expected = [f"{number:03}" for number in range(100)]
    for key in expected:
        bench.inner.put(key, b"")
    listing = iter(bench.store.list(""))
    found = [next(listing).key for _ in range(50)]
    bench.inner.delete("010")  # what the restarted list no longer has shifts nothing
    found += [info.key for info in listing]
    assert found == expected
    assert bench.calls["list"] == 5


@pytest.mark.parametrize("fault", ANY.values(), ids=ANY)
def test_a_copy_without_an_answer_is_done(fault: Fault) -> None:
    bench = Bench(Script(At(fault, "copy_if_absent")))
    bench.inner.put("a", b"content")
    assert isinstance(bench.store, Copies)
    bench.store.copy_if_absent("a", "b")
    assert bench.inner.get("b") == b"content"


@pytest.mark.parametrize("there", [b"other", b"CONTENT"])
def test_a_copy_without_an_answer_to_a_taken_key_fails(there: bytes) -> None:
    bench = Bench(Script(At(AnswerLost(), "copy_if_absent")))
    bench.inner.put("a", b"content")
    bench.inner.put("b", there)
    assert isinstance(bench.store, Copies)
    with pytest.raises(ObjectExists):
        bench.store.copy_if_absent("a", "b")
    assert bench.inner.get("b") == there
