"""A second thread searches small segments: it changes nothing of what is found, and nobody waits for it."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np
import pytest
from tests.index.test_indexes import DIMENSION, ROWS, mask, unit_vectors
from tests.support.patience import PATIENCE_S, until

from embedmill.index import FlatIndex, Helper, Selection
from embedmill.types import Vectors


class Does:
    """Work of a helper."""

    def __init__(self, what: Callable[[], object]) -> None:
        self.help = what


def standing() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "search-helper"]


def index_of(vectors: Vectors) -> FlatIndex:
    return FlatIndex(np.split(vectors, [1, 700, 2999]))


@pytest.mark.parametrize("dead", [0.0, 0.3, 0.999])
@pytest.mark.parametrize("helped", [True, False])
def test_the_same_is_found_whether_a_helper_came_or_not(helped: bool, dead: float) -> None:
    vectors, query, selected = unit_vectors(ROWS), unit_vectors(1, seed=1), mask(ROWS, dead)
    begun = index_of(vectors).begin(query, 10, Selection(selected))
    if helped:
        begun.help()
    rows, scores = begun.end()
    every = np.where(selected, vectors @ query[0], -np.inf)
    nearest = [row for row in np.argsort(-every)[:10].tolist() if selected[row]]
    assert rows[0, : len(nearest)].tolist() == nearest
    assert np.allclose(scores[0, : len(nearest)], every[nearest], atol=1e-6)
    assert not np.isfinite(scores[0, len(nearest) :]).any()


class LosesItsCore(np.ndarray):
    """A part of which another thread than the first never gets to the end."""

    asks = threading.current_thread()
    begun, ended = threading.Event(), threading.Event()

    def __getitem__(self, at: Any) -> Any:
        if threading.current_thread() is not self.asks:
            self.begun.set()
            self.ended.wait(PATIENCE_S)
        return self.view(np.ndarray)[at]


def test_a_part_that_the_helper_has_begun_and_not_ended_is_not_waited_for() -> None:
    vectors, query = unit_vectors(ROWS), unit_vectors(1, seed=1)
    every = Selection(np.ones(ROWS, dtype=np.bool_))
    first, *others = np.split(vectors, [1000, 2000])
    LosesItsCore.asks = threading.current_thread()
    helper, begun = Helper(), FlatIndex([first.view(LosesItsCore), *others]).begin(query, 10, every)
    assert helper.begin([begun])
    assert LosesItsCore.begun.wait(PATIENCE_S)
    found = begun.end()
    assert not LosesItsCore.ended.is_set()
    LosesItsCore.ended.set()
    assert found.rows_QK.tolist() == FlatIndex([vectors]).search(query, 10, every).rows_QK.tolist()


def test_a_helper_does_one_thing_at_a_time_and_then_the_next() -> None:
    helper, goes_on, done = Helper(), threading.Event(), list[int]()
    assert helper.begin([Does(lambda: goes_on.wait(PATIENCE_S)), Does(lambda: done.append(1))])
    assert not helper.begin([Does(lambda: done.append(2))])
    goes_on.set()
    until(lambda: helper.begin([Does(lambda: done.append(3))]))
    until(lambda: len(done) > 1)
    assert done == [1, 3]


class Damaged(np.ndarray):
    """A part that cannot be read."""

    def __getitem__(self, at: Any) -> Any:
        raise IndexError(at)


def test_an_error_of_a_part_is_not_taken_for_the_last_part() -> None:
    every, query = Selection(np.ones(ROWS, dtype=np.bool_)), unit_vectors(1, seed=1)
    begun = FlatIndex([unit_vectors(ROWS).view(Damaged)]).begin(query, 10, every)
    with pytest.raises(IndexError):
        begun.help()


def test_ctrl_c_in_the_middle_of_asking_does_not_make_the_helper_busy_for_good() -> None:
    helper, then = Helper(), threading.Event()
    assert helper.begin([Does(lambda: None)])
    standing = helper._standing
    assert standing is not None
    until(lambda: not standing.free.locked())

    def interrupt(frame: FrameType, event: str, called: Any) -> None:
        asks = frame.f_code is Helper.begin.__code__  # and not Python's own threads
        if asks and event == "c_return" and called.__name__ == "acquire":
            raise KeyboardInterrupt

    def interrupted() -> bool:
        sys.setprofile(interrupt)
        try:
            return helper.begin([Does(lambda: None)])
        finally:
            sys.setprofile(None)

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    until(lambda: helper.begin([Does(then.set)]))
    assert then.wait(PATIENCE_S)


def test_a_failure_does_not_end_the_helper() -> None:
    helper, done = Helper(), threading.Event()
    assert helper.begin([Does(lambda: [][0])])
    until(lambda: helper.begin([Does(done.set)]))
    assert done.wait(PATIENCE_S)


def test_the_thread_starts_when_it_is_needed_and_ends_with_its_helper() -> None:
    gc.collect()
    before, helper, done = set(standing()), Helper(), threading.Event()
    assert set(standing()) <= before
    assert helper.begin([Does(done.set)])
    assert done.wait(PATIENCE_S)
    (thread,) = set(standing()) - before
    del helper
    gc.collect()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


FORKED = """
import os, threading
from embedmill.index import Helper

class Does:
    def __init__(self, event):
        self.help = event.set

class Waits:
    def help(self):
        threading.Event().wait()

def helped(helper):
    event = threading.Event()
    return helper.begin([Does(event)]) and event.wait(600)

idle, busy = Helper(), Helper()
assert helped(idle) and busy.begin([Waits()])
child = os.fork()
if not child:
    os._exit(0 if helped(idle) and helped(busy) else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


def test_a_forked_process_has_helpers_of_its_own_and_one_that_ends_waits_for_none() -> None:
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORKED], check=True, timeout=PATIENCE_S)


def test_many_threads_that_ask_at_once_find_what_each_finds_alone() -> None:
    helper, index, every = Helper(), index_of(unit_vectors(ROWS)), Selection(mask(ROWS, 0.3))
    queries = unit_vectors(200, DIMENSION, seed=1)
    alone = [index.search(query[None], 10, every).rows_QK.tolist() for query in queries]
    found: dict[int, list[list[list[int]]]] = {}

    def ask(asker: int) -> None:
        rows = []
        for query in queries:
            begun = index.begin(query[None], 10, every)
            helper.begin([begun])
            rows.append(begun.end().rows_QK.tolist())
        found[asker] = rows

    threads = [threading.Thread(target=ask, args=(asker,)) for asker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == dict.fromkeys(range(4), alone)
