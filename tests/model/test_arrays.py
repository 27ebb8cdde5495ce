"""Memory of arrays is used again, and never while somebody has one of them, or a part of it."""

from __future__ import annotations

import numpy as np

from embedmill.model.arrays import MOST_FREE, Arrays


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]  # type: ignore[no-any-return]


def test_what_nobody_has_is_used_again() -> None:
    arrays = Arrays()
    first = arrays.take((4, 3))
    where = address(first)
    del first
    again = arrays.take((3, 4))
    assert address(again) == where
    assert (again.shape, again.dtype, again.flags.writeable) == ((3, 4), np.dtype(np.float32), True)


def test_a_part_of_an_array_keeps_all_of_its_memory() -> None:
    arrays = Arrays()
    first = arrays.take((4, 1, 3))
    first[:] = 1.0
    part = first[:, 0][2:3].T
    del first
    arrays.take((4, 1, 3))[:] = 2.0
    assert (part == 1.0).all()


def test_memory_that_does_not_fit_is_let_go_of() -> None:
    arrays = Arrays()
    for shape in ((8,), (4,), (16,)):
        taken = arrays.take(shape)
        taken[:] = 1.0
        assert taken.shape == shape
        del taken
        assert len(arrays._free) == 1


def test_no_more_memory_is_kept_than_loops_have_in_use() -> None:
    arrays = Arrays()
    taken = [arrays.take((2,)) for _ in range(2 * MOST_FREE)]
    assert len({address(each) for each in taken}) == len(taken)
    del taken
    assert len(arrays._free) == MOST_FREE
