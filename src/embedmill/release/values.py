"""One value of an Arrow column as a Python value, for types and ranges that Python lacks too."""

from __future__ import annotations

from typing import Any

import pyarrow as pa


def python_value(scalar: pa.Scalar) -> Any:
    """The value; as text where Python cannot hold it, such as nanoseconds or years after 9999."""
    try:
        return scalar.as_py()
    except (ValueError, OverflowError):
        return _beyond_python(scalar)


def _beyond_python(scalar: pa.Scalar) -> Any:
    match scalar:
        case pa.ListScalar() | pa.LargeListScalar() | pa.FixedSizeListScalar():  # maps are lists of pairs
            return [python_value(value) for value in scalar.values]
        case pa.StructScalar():
            names = [scalar.type.field(place).name for place in range(scalar.type.num_fields)]
            return {name: python_value(scalar[place]) for place, name in enumerate(names)}
    try:
        return scalar.cast(pa.string()).as_py()
    except pa.ArrowException:
        return f"<a value of type {scalar.type}>"
