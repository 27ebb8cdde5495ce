"""One value of an Arrow column as a Python value, for types and ranges that Python lacks too."""

from __future__ import annotations

from typing import Any

import pyarrow as pa


def python_value(scalar: pa.Scalar) -> Any:
    """The value; as text where Python cannot hold it, such as nanoseconds or years after 9999."""
    try:
        return scalar.as_py()
    except (ValueError, OverflowError):
        return _text(scalar)


def _text(scalar: pa.Scalar) -> str:
    try:
        text: str = scalar.cast(pa.string()).as_py()
    except pa.ArrowException:
        return str(scalar)
    return text
