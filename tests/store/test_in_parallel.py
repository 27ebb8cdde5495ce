"""Many calls are shared by as many threads as a store takes calls at a time."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from embedmill.errors import StoreUnavailable
from embedmill.store import cache
from embedmill.store.cache import beside, in_parallel
from embedmill.store.local import LocalStore
from embedmill.store.retrying import POLICY, RetryingStore


@pytest.mark.parametrize("count", [0, 1, 7, 1000])
def test_results_come_in_the_order_of_the_items(tmp_path: Path, count: int) -> None:
    assert in_parallel(LocalStore(tmp_path), str, range(count)) == [str(number) for number in range(count)]


def test_calls_are_made_beside_each_other(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    all_there = threading.Barrier(store.transfers, timeout=60)
    assert len(in_parallel(store, lambda _: all_there.wait(), range(store.transfers))) == store.transfers


def test_an_error_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever works meanwhile finishes what it has begun, and begins no more."""
    given_up = threading.Event()
    monkeypatch.setattr(cache, "Event", lambda: given_up)
    store, begun = LocalStore(tmp_path), []

    def work(number: int) -> None:
        begun.append(number)
        if number == 1:
            raise LookupError(number)
        assert given_up.wait(60)

    with pytest.raises(LookupError):
        cache.in_parallel(store, work, range(1000))
    assert len(begun) <= store.transfers


class Silent(LocalStore):
    """It never answers."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked = threading.Event()

    def get(self, key: str) -> bytes:
        self.asked.set()
        raise StoreUnavailable(f"{key}: no answer")


def waited_s(call: Callable[[], object]) -> int:
    """How long a call that gets no answer was tried."""
    with pytest.raises(StoreUnavailable) as error:
        call()
    found = re.search(r"(?:try|tries) in (\d+) s", error.value.message)
    assert found is not None
    return int(found[1])


def test_calls_that_get_no_answer_are_given_up_with_the_one_that_failed(tmp_path: Path) -> None:
    silent, waits = Silent(tmp_path), list[int]()
    store = RetryingStore(silent, known=True)

    def work(number: int) -> None:
        if number:
            waits.append(waited_s(lambda: in_parallel(store, store.get, ["a"])))
            raise StoreUnavailable("what another has failed with says why")
        assert silent.asked.wait(60)
        raise LookupError

    with pytest.raises(LookupError):
        in_parallel(store, work, range(2))
    assert waits[0] < POLICY.deadline_s


def test_what_is_done_beside_a_block_that_is_interrupted_is_not_waited_for(tmp_path: Path) -> None:
    silent, waits = Silent(tmp_path), list[int]()
    store = RetryingStore(silent, known=True)

    def interrupted() -> None:
        with beside(store, lambda _: waits.append(waited_s(lambda: store.get("a")))):
            assert silent.asked.wait(60)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert waits[0] < POLICY.deadline_s
