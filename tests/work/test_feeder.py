"""Arrays of the next shard are made while the last batches of this one are computed, and never too many."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from tests.models import tiny_text_package
from tests.support.patience import PATIENCE_S, until, waits_for_futures

from embedmill.errors import OutOfMemory
from embedmill.model import Encoder, ModelPackage
from embedmill.model.encoder import Computed
from embedmill.model.feeds import Fed
from embedmill.model.lanes import Given, Sessions
from embedmill.runtimes import Runtime
from embedmill.work.feeder import Feeder, Following
from embedmill.work.stages import StageTimes


def feeds(shard: str, count: int, made: list[str]) -> Iterator[Fed]:
    """So many batches' arrays, each noted when it is made."""
    for number in range(count):
        made.append(f"{shard}{number}")
        yield cast("Fed", f"{shard}{number}")


def feeder() -> Feeder:
    return Feeder(StageTimes(time.monotonic), threaded=True)


def test_the_next_shards_arrays_are_made_before_this_shard_ends() -> None:
    made: list[str] = []
    with feeder() as feeding:
        with feeding.feeding(feeds("a", 2, made)) as first:
            found: list[object] = [next(first), next(first)]
            feeding.follow(lambda: Following(feeds("b", 4, made)))
            until(lambda: made == ["a0", "a1", "b0", "b1"])
            assert next(first, None) is None
        with feeding.feeding(feeds("never", 9, made)) as second:
            found += second
        assert found == ["a0", "a1", "b0", "b1", "b2", "b3"]
    assert list[object](made) == found


def test_who_makes_the_last_arrays_begins_those_of_a_shard_that_waits_already() -> None:
    made: list[str] = []
    with feeder() as feeding, feeding.feeding(feeds("a", 5, made)) as first:
        assert str(next(first)) == "a0"
        feeding.follow(lambda: Following(feeds("b", 2, made)))
        until(lambda: made == ["a0", "a1", "a2"])  # one waits and one is in hand
        assert [str(each) for each in first] == ["a1", "a2", "a3", "a4"]
        until(lambda: made[5:] == ["b0", "b1"])


def test_a_shard_that_is_taken_before_its_arrays_are_begun_has_its_own_alone() -> None:
    made: list[str] = []
    with feeder() as feeding:
        feeding.follow(lambda: Following(feeds("never", 9, made)))
        with feeding.feeding(feeds("a", 1, made)) as first:
            assert [str(each) for each in first] == ["a0"]
        with feeding.feeding(feeds("b", 1, made)) as second:
            assert [str(each) for each in second] == ["b0"]


def test_the_first_two_batches_of_the_next_shard_are_computed_before_this_shard_ends() -> None:
    """However many lanes are free: the arrays of one wait, and those of one more are made."""
    made, computed = list[str](), list[str]()
    sessions = Sessions(4, lambda: cast("Runtime", object()))
    sessions.open_all()

    def compute(fed: Fed, wanted: Callable[[], bool]) -> Computed:
        with sessions.one():
            assert wanted()
            computed.append(str(fed))
            return np.zeros((1, 2), np.float32), {}

    with feeder() as feeding:
        with feeding.feeding(feeds("a", 1, made)) as first:
            next(first)
            feeding.follow(lambda: Following(feeds("b", 4, made), compute))
            until(lambda: sorted(computed) == ["b0", "b1"])
            assert next(first, None) is None
        with feeding.feeding(feeds("never", 9, made)) as second:
            found = list(second)
        early, usual = found[:2], found[2:]
        assert [
            (str(each.item), len(each.result.result()[0])) for each in early if isinstance(each, Given)
        ] == [
            ("b0", 1),
            ("b1", 1),
        ]
        assert [str(each) for each in usual] == ["b2", "b3"]
        assert len(computed) == 2


def test_who_forgets_what_follows_waits_for_what_is_computed_of_it() -> None:
    go_on, begun, ended = threading.Event(), threading.Event(), list[str]()

    def compute(fed: Fed, _: object) -> Computed:
        begun.set()
        assert go_on.wait(PATIENCE_S)
        ended.append(str(fed))
        return np.zeros((1, 2), np.float32), {}

    with feeder() as feeding:
        with feeding.feeding(feeds("a", 1, [])) as first:
            next(first)
            feeding.follow(lambda: Following(feeds("b", 1, []), compute))
            assert begun.wait(PATIENCE_S)
        forgets = threading.Thread(target=feeding.forget)
        forgets.start()
        until(lambda: waits_for_futures(forgets) or not forgets.is_alive())
        assert not ended
        assert forgets.is_alive()
        go_on.set()
        forgets.join()
        assert ended == ["b0"]


@pytest.mark.parametrize("fails", ["a lane", "the loop"])
def test_nothing_more_begins_once_memory_is_short_or_the_loop_stops(tmp_path: Path, fails: str) -> None:
    """Early batches wait for sessions that are held: what gives one back by an error starts none of them."""
    begun, failed, go_on = list[int](), threading.Event(), threading.Event()
    early, waiting, main = list[object](), threading.Event(), threading.current_thread()

    class Held:
        def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
            begun.append(number := len(begun))
            assert (failed if number == 0 else go_on).wait(PATIENCE_S)
            if number == 0 and fails == "a lane":
                raise OutOfMemory("no memory")
            return np.zeros((len(next(iter(feeds.values()))), encoder.dimension), np.float32)

    def compute(fed: Fed, wanted: Callable[[], bool]) -> Computed:
        early.append(fed)
        if len(early) == 2:
            waiting.set()
        return encoder.in_lane_early(fed, wanted)

    def on_batch(_: int) -> None:
        until(lambda: len(begun) == 3, "the session that is free has an early batch")
        raise OutOfMemory("the loop stops")

    def fail() -> None:
        until(lambda: len(begun) == 2)
        feeding.follow(lambda: Following(encoder.feeds(ready), compute))
        assert waiting.wait(PATIENCE_S)
        failed.set()
        until(lambda: waits_for_futures(main), "lanes are waited for")
        go_on.set()

    package = ModelPackage.open(tiny_text_package(tmp_path / "model"))
    encoder, held = Encoder.load(package), cast("Runtime", Held())
    sessions = Sessions(2, lambda: held)
    sessions.open_all()
    encoder = replace(encoder, runtime=held, sessions=sessions)
    texts = ["red lamp", "blue chair"]
    ready = encoder.prepare(pa.record_batch(dict.fromkeys(encoder.fields, texts)))
    ready = replace(ready, batches=[np.array([0]), np.array([1])])
    with feeder() as feeding, ThreadPoolExecutor(1) as other:
        ended = other.submit(fail)
        with pytest.raises(OutOfMemory):
            encoder.compute(ready, on_batch=on_batch, feeding=feeding.feeding)
        feeding.forget()
        ended.result(PATIENCE_S)
        assert begun == ([0, 1] if fails == "a lane" else [0, 1, 2])


def test_a_shard_that_is_ready_before_the_one_that_was_made_early_is_taken_follows_it() -> None:
    made: list[str] = []
    with feeder() as feeding:
        with feeding.feeding(feeds("a", 1, made)) as first:
            next(first)
            feeding.follow(lambda: Following(feeds("b", 1, made)))
            until(lambda: made == ["a0", "b0"] and feeding._made_all)
            feeding.follow(lambda: Following(feeds("c", 1, made)))
            assert next(first, None) is None
        with feeding.feeding(feeds("never", 9, made)) as second:
            until(lambda: made == ["a0", "b0", "c0"])
            assert [str(each) for each in second] == ["b0"]


@pytest.mark.parametrize("forgets", [True, False])
def test_what_was_begun_too_early_ends(forgets: bool) -> None:
    made, before = list[str](), threading.active_count()
    with feeder() as feeding:
        with feeding.feeding(feeds("a", 1, made)) as first:
            next(first)
            feeding.follow(lambda: Following(feeds("b", 9, made)))
            until(lambda: "b1" in made)
        if forgets:
            feeding.forget()
            feeding.follow(lambda: Following(feeds("b", 9, made)))
            with feeding.feeding(feeds("c", 1, made)) as other:
                assert [str(each) for each in other] == ["c0"]
    feeding.follow(lambda: Following(feeds("d", 9, made)))
    assert threading.active_count() == before
    assert not {"b3", "d0"} & set(made)


def test_an_error_in_what_was_begun_early_is_raised_by_its_own_shard() -> None:
    def fails() -> Iterator[Fed]:
        yield cast("Fed", "b0")
        raise MemoryError("no memory")

    with feeder() as feeding:
        with feeding.feeding(feeds("a", 1, [])) as first:
            next(first)
            feeding.follow(lambda: Following(fails()))
            assert next(first, None) is None
        with pytest.raises(MemoryError), feeding.feeding(feeds("b", 2, [])) as second:
            list(second)
