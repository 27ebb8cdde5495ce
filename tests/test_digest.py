"""Digests in numpy and Arrow: no byte is lost, and the order is that of bytes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedmill.digest import (
    digest_bytes,
    digest_list,
    digests_from_arrow,
    digests_from_bytes,
    digests_to_arrow,
)

EDGES = b"\x00\x01\x61\x7f\x80\xff"
DIGESTS = st.lists(
    st.one_of(
        st.binary(min_size=16, max_size=16),
        st.lists(st.sampled_from(EDGES), min_size=16, max_size=16).map(bytes),
    )
)


@given(DIGESTS)
def test_every_byte_survives_the_way_through_numpy_and_arrow(values: list[bytes]) -> None:
    digests = digests_from_bytes(b"".join(values))
    assert digest_list(digests) == values
    assert digest_bytes(digests) == b"".join(values)
    assert digests_to_arrow(digests).to_pylist() == values
    assert digest_list(digests_from_arrow(pa.array(values, pa.binary(16)))) == values


@given(DIGESTS)
def test_sorting_is_the_order_of_bytes(values: list[bytes]) -> None:
    digests = digests_from_bytes(b"".join(values))
    assert digest_list(np.sort(digests)) == sorted(values)
    assert digest_list(digests[np.argsort(digests, kind="stable")]) == sorted(values)


@given(DIGESTS, st.binary(min_size=16, max_size=16))
def test_searching_is_the_order_of_bytes(values: list[bytes], wanted: bytes) -> None:
    ordered = digests_from_bytes(b"".join(sorted(values)))
    needles = digests_from_bytes(wanted + b"".join(values))
    expected = [sum(value < each for value in values) for each in [wanted, *values]]
    assert np.searchsorted(ordered, needles).tolist() == expected


def test_every_byte_value_has_its_place_at_every_position() -> None:
    for position in range(16):
        values = [bytes(position) + bytes([byte]) + bytes(15 - position) for byte in range(256)]
        shuffled = digests_from_bytes(b"".join(reversed(values)))
        assert digest_list(np.sort(shuffled)) == values
        assert np.searchsorted(np.sort(shuffled), digests_from_bytes(b"".join(values))).tolist() == list(
            range(256)
        )


@given(DIGESTS, DIGESTS)
def test_equality_is_that_of_bytes(one: list[bytes], other: list[bytes]) -> None:
    both = list(zip(one, other, strict=False))
    left = digests_from_bytes(b"".join(a for a, _ in both))
    right = digests_from_bytes(b"".join(b for _, b in both))
    assert (left == right).tolist() == [a == b for a, b in both]


def test_a_slice_of_an_arrow_column_is_its_own_rows_without_a_copy() -> None:
    values = [bytes([i]) * 16 for i in range(10)]
    column = pa.array(values, pa.binary(16))
    digests = digests_from_arrow(column[3:7])
    assert digest_list(digests) == values[3:7]
    assert digests.__array_interface__["data"][0] == column.buffers()[1].address + 3 * 16


def test_a_numpy_array_reaches_arrow_without_a_copy_and_a_strided_one_whole() -> None:
    digests = np.array(digests_from_bytes(bytes(range(64))))
    assert digests_to_arrow(digests).buffers()[1].address == digests.__array_interface__["data"][0]
    assert digests_to_arrow(digests[::2]).to_pylist() == digest_list(digests)[::2]


@pytest.mark.parametrize(
    "column", [pa.array([b"x" * 16, None], pa.binary(16)), pa.array([b"x"], pa.binary(1)), pa.array(["x"])]
)
def test_columns_that_are_no_digests_are_refused(column: pa.Array) -> None:
    with pytest.raises(ValueError):
        digests_from_arrow(column)


def test_half_a_digest_is_refused() -> None:
    with pytest.raises(ValueError):
        digests_from_bytes(b"x" * 24)
