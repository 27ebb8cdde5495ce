"""Literals of SQL, and the types that columns are compared with them in."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, TypeAlias

import pyarrow as pa
import pyarrow.types as pt

if TYPE_CHECKING:
    from sqlglot import exp

Literal: TypeAlias = str | bool | Decimal | pa.Scalar
"""A text, a boolean, a number, or a date or timestamp (an Arrow scalar)."""

_MOMENTS = {"DATE": pa.date32(), "TIMESTAMP": pa.timestamp("us")}


def literal_value(node: exp.Expression) -> Literal:
    """The value that a literal means.

    Raises:
        ValueError: It is no literal, or not a date that exists.
        ArithmeticError: It is not a number.
    """
    from sqlglot import exp

    match node:
        case exp.Paren():
            return literal_value(node.this)
        case exp.Neg(this=exp.Literal(is_string=False)):
            return -Decimal(node.this.this)
        case exp.Boolean():
            return bool(node.this)
        case exp.Literal():
            return str(node.this) if node.is_string else Decimal(node.this)
        case exp.Cast(this=exp.Literal(is_string=True)) if node.to.this.name in _MOMENTS:
            return pa.scalar(node.this.this).cast(_MOMENTS[node.to.this.name])
    raise ValueError(f"{node} is no literal")


def fit_literal(found: Literal, column: pa.DataType) -> tuple[pa.DataType, pa.Scalar] | None:
    """The type to cast a column to and the scalar to compare it with, or None where they do not fit."""
    try:
        if isinstance(found, bool):
            return _bool(found, column)
        if isinstance(found, Decimal):
            return _number(found, column)
        return _text(found, column) if isinstance(found, str) else _moment(found, column)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None


def _bool(found: bool, column: pa.DataType) -> tuple[pa.DataType, pa.Scalar] | None:
    return (pa.bool_(), pa.scalar(found)) if pt.is_boolean(column) or pt.is_string(column) else None


def _number(found: Decimal, column: pa.DataType) -> tuple[pa.DataType, pa.Scalar] | None:
    """Exact where the column's type holds the number, else as float64."""
    if pt.is_floating(column):
        return column, pa.scalar(float(found)).cast(column, safe=False)
    if pt.is_integer(column) and found == int(found):
        try:
            return column, pa.scalar(int(found), column)
        except (pa.ArrowInvalid, OverflowError):
            return pa.float64(), pa.scalar(float(found))
    if pt.is_decimal(column):
        try:
            return column, pa.scalar(found, column)
        except pa.ArrowInvalid:
            return pa.float64(), pa.scalar(float(found))
    if pt.is_integer(column) or pt.is_string(column):
        return pa.float64(), pa.scalar(float(found))
    return None


def _text(found: str, column: pa.DataType) -> tuple[pa.DataType, pa.Scalar] | None:
    text = pa.scalar(found)
    if pt.is_string(column):
        return column, text
    if pt.is_binary(column):
        return column, text.cast(column)
    if pt.is_timestamp(column):
        return _moment(text.cast(pa.timestamp("us")), column)
    return (column, text.cast(column)) if pt.is_date(column) else None


def _moment(found: pa.Scalar, column: pa.DataType) -> tuple[pa.DataType, pa.Scalar] | None:
    """A date or a timestamp; without a zone of its own it is UTC where the column has a zone."""
    if pt.is_string(column):
        return found.type, found
    if pt.is_date(column):
        return (column, found.cast(column)) if pt.is_date(found.type) else (found.type, found)
    if pt.is_timestamp(column):
        return column, pa.scalar(found.cast(pa.timestamp("us")).value, pa.timestamp("us", column.tz))
    return None
