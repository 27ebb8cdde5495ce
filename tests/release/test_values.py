"""Every value that Arrow can hold becomes a Python value, or text that says it."""

from __future__ import annotations

from datetime import date
from typing import Any

import pyarrow as pa
import pytest

from embedmill.release.values import python_value

NANOS = 1_234_567_890_123_456_789


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        (pa.scalar("a"), "a"),
        (pa.scalar(date(2026, 1, 31)), date(2026, 1, 31)),
        (pa.scalar(None, pa.int64()), None),
        (pa.scalar(NANOS, pa.timestamp("ns")), "2009-02-13 23:31:30.123456789"),
        (pa.scalar(NANOS, pa.duration("ns")), str(NANOS)),
        (pa.scalar(2**40, pa.timestamp("s")), f"<value out of range: {2**40}>"),
        (pa.scalar([NANOS], pa.list_(pa.timestamp("ns"))), ["2009-02-13 23:31:30.123456789"]),
        (pa.scalar([NANOS], pa.list_(pa.timestamp("ns"), 1)), ["2009-02-13 23:31:30.123456789"]),
        (
            pa.scalar({"a": NANOS, "b": None}, pa.struct([("a", pa.duration("ns")), ("b", pa.int8())])),
            {"a": str(NANOS), "b": None},
        ),
        (
            pa.scalar([("a", NANOS)], pa.map_(pa.string(), pa.duration("ns"))),
            [{"key": "a", "value": str(NANOS)}],
        ),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Scalar) else "",
)
def test_a_scalar_of_any_type_has_a_python_value(scalar: pa.Scalar, value: Any) -> None:
    assert python_value(scalar) == value
