"""Columns as their values, where they lie."""

from __future__ import annotations

import pyarrow as pa
import pytest

from embedmill.arrow import byte_views

VALUES = [b"first", None, b"", b"\0last"]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()], ids=str)
@pytest.mark.parametrize("start", [0, 1, 3, 4])
def test_views_are_the_values_of_the_column_and_of_any_part_of_it(kind: pa.DataType, start: int) -> None:
    views = byte_views(pa.array(VALUES, kind).slice(start))
    assert [None if view is None else bytes(view) for view in views] == VALUES[start:]


@pytest.mark.parametrize("values", [[], [None], [None, b""]], ids=str)
def test_a_column_without_bytes_has_nothing_or_empty_views(values: list[bytes | None]) -> None:
    views = byte_views(pa.array(values, pa.binary()))
    assert [None if view is None else bytes(view) for view in views] == values


def test_nothing_is_copied() -> None:
    column = pa.array([b"a" * 100], pa.binary())
    (view,) = byte_views(column)
    assert view is not None
    assert pa.py_buffer(view).address == column.buffers()[2].address
