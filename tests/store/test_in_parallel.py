"""Many calls are shared by as many threads as a store takes calls at a time."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from embedmill.store import cache
from embedmill.store.cache import in_parallel
from embedmill.store.local import LocalStore


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
