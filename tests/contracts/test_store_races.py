"""What every store does when many use it at once, and after any history."""

from __future__ import annotations

import contextlib
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.stores import THREADS, in_threads, keys, often

from embedmill.errors import ObjectExists, ObjectMissing, PreconditionFailed, StoreUnavailable
from embedmill.store import (
    Store,
    copy,
)

# Races


@pytest.mark.parametrize("taken_by", ["bytes", "file"])
def test_of_many_creators_exactly_one_wins_and_the_object_is_the_winners(
    store: Store, taken_by: str, tmp_path: Path
) -> None:
    bodies: list[bytes | Path] = [str(number).encode() * 10_000 for number in range(THREADS)]
    if taken_by == "file":
        for number, body in enumerate(bodies):
            (tmp_path / f"{number}").write_bytes(bytes(body) if isinstance(body, bytes) else b"")
        bodies = [tmp_path / f"{number}" for number in range(THREADS)]
    for round_ in range(often(store, 10)):
        key = f"runs/{round_}/commits/0.json"

        def create(number: int, key: str = key) -> str | None:
            try:
                return store.put_if_absent(key, bodies[number])
            except ObjectExists:
                return None

        etags = in_threads(create)
        ((winner, etag),) = [(number, etag) for number, etag in enumerate(etags) if etag is not None]
        body = bodies[winner]
        assert store.get(key) == (body if isinstance(body, bytes) else body.read_bytes())
        assert store.head(key).etag == etag


def test_compare_and_swap_loses_no_update(store: Store) -> None:
    store.put("updates", b"")
    each = often(store, 12)

    def add(number: int) -> None:
        for round_ in range(each):
            mine = f"{number}-{round_}\n".encode()
            while True:
                seen = store.head("updates").etag
                updates = store.get("updates")
                if mine in updates.splitlines(keepends=True):  # it was refused after it had been done
                    break
                try:
                    store.put("updates", updates + mine, if_match=seen)
                except PreconditionFailed:
                    continue
                break

    in_threads(add)
    expected = [f"{number}-{round_}".encode() for number in range(THREADS) for round_ in range(each)]
    assert sorted(store.get("updates").splitlines()) == sorted(expected)


def test_a_create_returns_its_own_etag_even_if_the_object_is_replaced_or_deleted_at_once(
    store: Store,
) -> None:
    stop = threading.Event()
    replaced: set[str] = set()

    def disturb() -> None:
        while not stop.is_set():
            store.delete("a")
            try:
                replaced.add(store.put("a", b"other", if_match=store.head("a").etag))
            except (ObjectMissing, PreconditionFailed):
                continue

    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(disturb) for _ in range(2)]
        created = set()
        try:
            for _ in range(often(store, 500)):
                try:
                    created.add(store.put_if_absent("a", b"mine"))
                except ObjectExists:
                    continue
        finally:
            stop.set()
        for each in running:
            each.result()
    assert created
    assert created.isdisjoint(replaced)


def test_creating_beside_a_delete_that_empties_the_folder_works(store: Store) -> None:
    def churn(number: int) -> None:
        for round_ in range(often(store, 60)):
            key = f"leases/{number // 2}/{number}-{round_}"
            store.put_if_absent(key, b"1")
            store.delete(key)
            store.put(key, b"2")
            store.delete(key)

    in_threads(churn)
    assert keys(store) == []


def test_a_reader_sees_a_whole_version_while_it_is_replaced(store: Store) -> None:
    store.put("a", b"0" * 1_000_000)
    stop = threading.Event()

    def replace() -> None:
        for number in itertools.cycle(range(10)):
            store.put("a", str(number).encode() * 1_000_000)
            if stop.is_set():
                return

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(replace)
        try:
            for _ in range(often(store, 100)):
                seen = answered(store, "a")
                assert seen == seen[:1] * 1_000_000
        finally:
            stop.set()
        running.result()


def answered(store: Store, key: str) -> bytes:
    """The moto server, where it has little time, answers 500 about an object that it is replacing."""
    while True:
        with contextlib.suppress(StoreUnavailable):
            return store.get(key)


# Any history


PARTS = st.lists(st.sampled_from(["a", "b", "c.d"]), min_size=1, max_size=3).map("/".join)
STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "create", "swap", "delete", "copy"]), PARTS, st.binary(max_size=3)),
    max_size=12,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(STEPS)
def test_any_history_leaves_what_a_dictionary_would(
    store: Store, tmp_path: Path, steps: list[tuple[str, str, bytes]]
) -> None:
    for key in keys(store):
        store.delete(key)
    expected: dict[str, bytes] = {}
    for what, name, body in steps:
        key = f"{name}.object"  # no key is another's folder
        match what:
            case "put":
                store.put(key, body)
                expected[key] = body
            case "create" if key in expected:
                with pytest.raises(ObjectExists):  # equal bytes may count as the first caller's
                    store.put_if_absent(key, expected[key] + body + b"!")
            case "create":
                store.put_if_absent(key, body)
                expected[key] = body
            case "swap" if key in expected:
                store.put(key, body, if_match=store.head(key).etag)
                expected[key] = body
            case "delete":
                store.delete(key)
                expected.pop(key, None)
            case "copy" if key in expected:
                copy(store, key, "copy.object")
                expected.setdefault("copy.object", expected[key])
    assert {key: store.get(key) for key in keys(store)} == expected
