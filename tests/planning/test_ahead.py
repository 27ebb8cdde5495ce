"""What is done ahead in threads comes in order, ends with its caller, and fails as it would have without."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator

import pytest

from embedmill.cores import cores
from embedmill.planning.ahead import AHEAD_BYTES, most_ahead, read_ahead, worked_ahead


def counted(count: int, closed_in: list[int]) -> Generator[int, None, None]:
    try:
        yield from range(count)
    finally:
        closed_in.append(threading.get_ident())


def threads_of(count: int, seen: set[int]) -> Generator[int, None, None]:
    for number in range(count):
        seen.add(threading.get_ident())
        yield number
    seen.add(threading.get_ident())


@pytest.mark.parametrize("count", [0, 1, 5])
def test_all_that_is_read_ahead_comes_once_and_in_order(count: int) -> None:
    assert list(read_ahead(counted(count, []))) == list(range(count))


def test_what_is_read_ahead_is_made_in_one_thread_that_is_not_the_callers() -> None:
    seen: set[int] = set()
    assert list(read_ahead(threads_of(5, seen))) == list(range(5))
    assert len(seen) == 1
    assert threading.get_ident() not in seen


def test_who_stops_early_closes_what_was_read_in_the_thread_that_read_it() -> None:
    closed_in: list[int] = []
    with contextlib.closing(read_ahead(counted(5, closed_in))) as numbers:
        assert next(numbers) == 0
    assert len(closed_in) == 1
    assert closed_in[0] != threading.get_ident()


def test_an_error_comes_in_the_place_of_what_could_not_be_read() -> None:
    def broken() -> Generator[int, None, None]:
        yield 1
        raise OSError("damaged")

    numbers = read_ahead(broken())
    assert next(numbers) == 1
    with pytest.raises(OSError, match="damaged"):
        next(numbers)


@pytest.mark.parametrize("most", [0, 1, 3])
def test_results_come_in_the_order_of_what_was_worked_on(most: int) -> None:
    assert list(worked_ahead(lambda number: number * number, range(9), most=most)) == [
        n * n for n in range(9)
    ]


@pytest.mark.parametrize("most", [0, 2])
def test_no_more_is_asked_for_than_may_be_worked_on_ahead(most: int) -> None:
    each = iter(range(9))
    found = worked_ahead(lambda number: number, each, most=most)
    assert next(found) == 0
    assert next(each) == most + 1
    found.close()


def test_an_error_of_the_work_comes_in_its_place() -> None:
    found = worked_ahead(lambda number: 1 // number, [1, 0, 1], most=2)
    assert next(found) == 1
    with pytest.raises(ZeroDivisionError):
        next(found)


def test_less_is_worked_on_ahead_where_it_is_large() -> None:
    """However small the others are: memory does not grow with the cores then."""
    assert most_ahead([]) == most_ahead([0]) == most_ahead([1, AHEAD_BYTES // cores()]) == cores()
    assert most_ahead([1, AHEAD_BYTES // 2 + 1, AHEAD_BYTES]) == most_ahead([AHEAD_BYTES // 2 + 1]) == 1
    assert most_ahead([1, AHEAD_BYTES + 1]) == 0
