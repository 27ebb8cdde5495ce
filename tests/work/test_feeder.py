"""Arrays of the next shard are made while the last batches of this one are computed, and never too many."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import cast

import numpy as np
import pytest
from tests.support.patience import PATIENCE_S, until

from embedmill.model.encoder import Computed
from embedmill.model.feeds import Fed
from embedmill.model.lanes import Begun
from embedmill.work.feeder import Feeder, Following
from embedmill.work.stages import StageTimes


def feeds(shard: str, count: int, made: list[str]) -> Iterator[Fed]:
    """So many batches' arrays, each noted when it is made."""
    for number in range(count):
        made.append(f"{shard}{number}")
        yield cast("Fed", f"{shard}{number}")


def nothing(fed: Fed) -> Computed:
    raise AssertionError(f"{fed} is computed early")


def following(
    feeds: Iterator[Fed], lanes: int = 0, compute: Callable[[Fed], Computed] = nothing
) -> Following:
    return Following(feeds, lanes, compute)


def feeder() -> Feeder:
    return Feeder(StageTimes(time.monotonic), threaded=True)


def test_the_next_shards_arrays_are_made_before_this_shard_ends() -> None:
    made: list[str] = []
    with feeder() as feeding:
        with feeding.feeding(feeds("a", 2, made)) as first:
            found: list[object] = [next(first), next(first)]
            feeding.follow(lambda: following(feeds("b", 4, made)))
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
        feeding.follow(lambda: following(feeds("b", 2, made)))
        until(lambda: made == ["a0", "a1", "a2"])  # one waits and one is in hand
        assert [str(each) for each in first] == ["a1", "a2", "a3", "a4"]
        until(lambda: made[5:] == ["b0", "b1"])


def test_a_shard_that_is_taken_before_its_arrays_are_begun_has_its_own_alone() -> None:
    made: list[str] = []
    with feeder() as feeding:
        feeding.follow(lambda: following(feeds("never", 9, made)))
        with feeding.feeding(feeds("a", 1, made)) as first:
            assert [str(each) for each in first] == ["a0"]
        with feeding.feeding(feeds("b", 1, made)) as second:
            assert [str(each) for each in second] == ["b0"]


def test_the_first_batches_of_the_next_shard_are_computed_before_this_shard_ends() -> None:
    made, computed = list[str](), list[str]()

    def compute(fed: Fed) -> Computed:
        computed.append(str(fed))
        return np.zeros((1, 2), np.float32), {}

    with feeder() as feeding:
        with feeding.feeding(feeds("a", 1, made)) as first:
            next(first)
            feeding.follow(lambda: following(feeds("b", 4, made), 2, compute))
            until(lambda: sorted(computed) == ["b0", "b1"])
            assert next(first, None) is None
        with feeding.feeding(feeds("never", 9, made)) as second:
            found = list(second)
        early, usual = found[:2], found[2:]
        assert [
            (str(each.item), len(each.result.result()[0])) for each in early if isinstance(each, Begun)
        ] == [
            ("b0", 1),
            ("b1", 1),
        ]
        assert [str(each) for each in usual] == ["b2", "b3"]
        assert len(computed) == 2


def test_who_forgets_what_follows_waits_for_what_is_computed_of_it() -> None:
    go_on, begun, ended = threading.Event(), threading.Event(), list[str]()

    def compute(fed: Fed) -> Computed:
        begun.set()
        assert go_on.wait(PATIENCE_S)
        ended.append(str(fed))
        return np.zeros((1, 2), np.float32), {}

    with feeder() as feeding:
        with feeding.feeding(feeds("a", 1, [])) as first:
            next(first)
            feeding.follow(lambda: following(feeds("b", 4, []), 1, compute))
            assert begun.wait(PATIENCE_S)
        threading.Timer(0.05, go_on.set).start()
        feeding.forget()
        assert ended == ["b0"]


@pytest.mark.parametrize("forgets", [True, False])
def test_what_was_begun_too_early_ends(forgets: bool) -> None:
    made, before = list[str](), threading.active_count()
    with feeder() as feeding:
        with feeding.feeding(feeds("a", 1, made)) as first:
            next(first)
            feeding.follow(lambda: following(feeds("b", 9, made)))
            until(lambda: "b1" in made)
        if forgets:
            feeding.forget()
            feeding.follow(lambda: following(feeds("b", 9, made)))
            with feeding.feeding(feeds("c", 1, made)) as other:
                assert [str(each) for each in other] == ["c0"]
    feeding.follow(lambda: following(feeds("d", 9, made)))
    assert threading.active_count() == before
    assert not {"b3", "d0"} & set(made)


def test_an_error_in_what_was_begun_early_is_raised_by_its_own_shard() -> None:
    def fails() -> Iterator[Fed]:
        yield cast("Fed", "b0")
        raise MemoryError("no memory")

    with feeder() as feeding:
        with feeding.feeding(feeds("a", 1, [])) as first:
            next(first)
            feeding.follow(lambda: following(fails()))
            assert next(first, None) is None
        with pytest.raises(MemoryError), feeding.feeding(feeds("b", 2, [])) as second:
            list(second)
