"""Cells are what pyarrow's own scalars say, wherever in a buffer a column begins and whatever is null."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa
import pytest

from embedmill.release.cells import cells_of
from embedmill.release.values import python_value

TEXTS = ["", "lamp", None, "Grüße, 世界 🪔", "a\0b", None]
WHOLE = [0, -1, None, 127, 1, None]
COLUMNS = [
    pa.array(TEXTS),
    pa.array(TEXTS, pa.large_string()),
    pa.array(["", "", ""]),
    pa.array(TEXTS).dictionary_encode(),
    *(pa.array(WHOLE, kind) for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64())),
    pa.array([0, 255, None, 3], pa.uint8()),
    pa.array([0, 2**64 - 1, None, 3], pa.uint64()),
    pa.array([0.1, None, float("inf"), -0.0], pa.float32()),
    pa.array([0.1, None, float("inf"), -0.0], pa.float64()),
    pa.array([1.5, None], pa.float16()),
    pa.array([True, False, None]),
    pa.array([b"\xff", None, b""]),
    pa.array([[1], None, []], pa.list_(pa.int32())),
    pa.array([Decimal("1.20"), None]),
    pa.array([10**18, None], pa.timestamp("ns")),
    pa.array([None, None, None], pa.string()),
    pa.nulls(3),
]


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: str(column.type))
@pytest.mark.parametrize("start", [0, 1, 2])
def test_a_cell_is_the_python_value_of_its_scalar(column: pa.Array, start: int) -> None:
    part = column.slice(start)
    cell = cells_of(part)
    found, wanted = [cell(row) for row in range(len(part))], [python_value(scalar) for scalar in part]
    assert found == wanted
    assert list(map(type, found)) == list(map(type, wanted))


def test_cells_outlive_the_table_that_they_came_from() -> None:
    cell = cells_of(pa.array([f"title {number}" for number in range(1000)]))
    assert [cell(row) for row in (0, 999)] == ["title 0", "title 999"]
