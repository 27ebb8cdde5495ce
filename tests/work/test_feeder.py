"""Arrays of the next shard are made while the last batches of this one are computed, and never too many."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import cast

import pytest
from tests.support.patience import PATIENCE_S, until

from embedmill.model.feeds import Fed
from embedmill.work.feeder import Feeder
from embedmill.work.stages import Ahead, StageTimes


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
            until(lambda: feeding.idle)
            feeding.begin(feeds("b", 4, made))
            assert not feeding.idle
            until(lambda: made == ["a0", "a1", "b0", "b1"])
            assert next(first, None) is None
        with feeding.feeding(feeds("never", 9, made)) as second:
            found += second
        assert found == ["a0", "a1", "b0", "b1", "b2", "b3"]
    assert list[object](made) == found


def test_a_shard_whose_arrays_are_not_all_made_lets_none_be_begun() -> None:
    feeding = feeder()
    with feeding, feeding.feeding(feeds("a", 5, [])) as first:
        next(first)
        assert not feeding.idle


@pytest.mark.parametrize("forgets", [True, False])
def test_what_was_begun_too_early_ends(forgets: bool) -> None:
    made, before = list[str](), threading.active_count()
    with feeder() as feeding:
        with feeding.feeding(feeds("a", 1, made)) as first:
            next(first)
            until(lambda: feeding.idle)
        feeding.begin(feeds("b", 9, made))
        if forgets:
            feeding.forget()
            with feeding.feeding(feeds("c", 1, made)) as other:
                assert [str(each) for each in other] == ["c0"]
    assert threading.active_count() == before
    assert "b3" not in made


def test_an_error_in_what_was_begun_early_is_raised_by_its_own_shard() -> None:
    def fails() -> Iterator[Fed]:
        yield cast("Fed", "b0")
        raise MemoryError("no memory")

    with feeder() as feeding:
        with feeding.feeding(feeds("a", 1, [])) as first:
            next(first)
            until(lambda: feeding.idle)
            feeding.begin(fails())
            assert next(first, None) is None
        with pytest.raises(MemoryError), feeding.feeding(feeds("b", 2, [])) as second:
            list(second)


def test_an_item_is_taken_without_waiting_where_one_is_made_and_errors_stay_for_who_waits() -> None:
    go_on = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        assert go_on.wait(PATIENCE_S)
        raise ValueError("in its turn")

    ahead = Ahead(items(), depth=1, name="test")
    with ahead as waiting:
        until(lambda: ahead.depth() == 1)
        assert ahead.made() == 1
        assert ahead.made() is None
        go_on.set()
        until(lambda: ahead.depth() == 1)
        assert ahead.made() is None
        with pytest.raises(ValueError, match="in its turn"):
            next(waiting)
