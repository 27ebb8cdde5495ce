"""Batches are a function of lengths and budget alone, hold every row once, and keep to the budget."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedmill.model import pack

lengths = st.lists(st.integers(1, 300), max_size=200).map(lambda found: np.array(found, np.int64))


@given(lengths, st.integers(1, 2000), st.integers(1, 50))
def test_every_row_is_in_one_batch_in_order_of_length(
    lengths: np.ndarray[tuple[int], np.dtype[np.int64]], budget: int, most: int
) -> None:
    batches = pack(lengths, budget, most_rows=most)
    order = np.concatenate(batches) if batches else np.array([], np.int64)
    assert (order == np.argsort(lengths, kind="stable")).all()
    for batch in batches:
        assert 1 <= len(batch) <= most
        assert len(batch) == 1 or len(batch) * lengths[batch].max() <= budget


@given(lengths, st.integers(1, 2000))
def test_a_batch_takes_all_that_the_budget_lets_in(
    lengths: np.ndarray[tuple[int], np.dtype[np.int64]], budget: int
) -> None:
    batches = pack(lengths, budget)
    for batch, following in itertools.pairwise(batches):
        assert (len(batch) + 1) * lengths[following[0]] > budget


@given(lengths)
def test_unmixed_batches_have_one_length(lengths: np.ndarray[tuple[int], np.dtype[np.int64]]) -> None:
    batches = pack(lengths, 10**9, mixed=False)
    assert all(len(set(lengths[batch].tolist())) == 1 for batch in batches)
    assert len(batches) == len(set(lengths.tolist()))


@pytest.mark.parametrize(
    ("sizes", "budget", "expected"),
    [
        ([], 10, []),
        ([500], 10, [[0]]),
        ([3, 1, 2, 1], 4, [[1, 3], [2], [0]]),
        ([5, 5, 5, 5], 10, [[0, 1], [2, 3]]),
        ([0, 0, 0], 1, [[0, 1, 2]]),
    ],
)
def test_examples(sizes: list[int], budget: int, expected: list[list[int]]) -> None:
    assert [batch.tolist() for batch in pack(np.array(sizes, np.int64), budget)] == expected
