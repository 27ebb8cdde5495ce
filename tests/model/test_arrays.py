"""Memory of arrays is used again, and never while somebody has one of them, or a part of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tests.models import tiny_image_package

from embedmill.model import Encoder, ModelPackage
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


def test_memory_that_is_too_small_is_let_go_of() -> None:
    arrays = Arrays()
    for shape in ((4,), (8,), (16,)):
        taken = arrays.take(shape)
        taken[:] = 1.0
        assert taken.shape == shape
        del taken
        assert len(arrays._free) == 1


def test_a_smaller_array_has_a_part_of_what_larger_ones_had_and_leaves_them_theirs() -> None:
    arrays = Arrays()
    taken = [arrays.take((16, 9)) for _ in range(6)]
    places = {address(each) for each in taken}
    del taken
    small = arrays.take((1, 9))
    assert (small.shape, address(small) in places) == ((1, 9), True)
    del small
    taken = [arrays.take((16, 9)) for _ in range(6)]
    assert {address(each) for each in taken} == places


def test_memory_is_freed_where_it_is_too_short_for_lanes(tmp_path: Path) -> None:
    encoder = Encoder.load(ModelPackage.open(tiny_image_package(tmp_path / "model")))
    arrays = encoder.binding.images[0].arrays
    had, has = arrays.take((4, 3)), arrays.take((4, 3))
    del had
    assert len(arrays._free) == 1
    encoder.limit_lanes(1)
    assert not arrays._free
    del has
    assert not arrays._free


def test_no_more_memory_is_kept_than_loops_have_in_use() -> None:
    arrays = Arrays()
    taken = [arrays.take((2,)) for _ in range(2 * MOST_FREE)]
    assert len({address(each) for each in taken}) == len(taken)
    del taken
    assert len(arrays._free) == MOST_FREE
