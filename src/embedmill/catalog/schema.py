"""Column types: made plain, brought together over files, and cast row by row."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from embedmill.errors import CatalogError, SpecError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from embedmill.catalog.base import TableFile
    from embedmill.types import Mask

TYPE_NAMES = {
    "string": pa.string(),
    "bool": pa.bool_(),
    **{
        f"{sign}int{bits}": pa.type_for_alias(f"{sign}int{bits}")
        for sign in ("", "u")
        for bits in (8, 16, 32, 64)
    },
    "float32": pa.float32(),
    "float64": pa.float64(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
    "timestamp_utc": pa.timestamp("us", "UTC"),
}


def declared_types(types: Mapping[str, str]) -> dict[str, pa.DataType]:
    """The types that `catalog.types` names.

    Raises:
        SpecError: A name is not known.
    """
    return {column: _declared(column, name) for column, name in types.items()}


def _declared(column: str, name: str) -> pa.DataType:
    if name in TYPE_NAMES:
        return TYPE_NAMES[name]
    decimal = re.fullmatch(r"decimal\((\d+), ?(\d+)\)", name)
    if decimal and 1 <= int(decimal[1]) <= 38 and int(decimal[2]) <= int(decimal[1]):
        return pa.decimal128(int(decimal[1]), int(decimal[2]))
    raise SpecError(
        f"catalog.types.{column}: {name!r} is not a type",
        hint=f"allowed: {', '.join(TYPE_NAMES)}, decimal(P, S)",
    )


def cast_where_possible(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """The column as `kind`; values that have no exact equal there become null."""
    if column.type == kind:
        return column
    try:
        return column.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        if len(column) <= 1:
            return pa.nulls(len(column), kind)
        middle = len(column) // 2
        halves = [cast_where_possible(part, kind) for part in (column[:middle], column[middle:])]
        return pa.concat_arrays(halves)


def lost(before: pa.Array, after: pa.Array) -> Mask:
    """bool[N]: rows that had a value before and have none after."""
    if before.null_count == after.null_count:
        return np.zeros(len(before), dtype=np.bool_)
    gone: Mask = pc.and_(before.is_valid(), after.is_null()).to_numpy(zero_copy_only=False)
    return gone


def common_schema(
    tables: Sequence[TableFile], columns: Iterable[str], *, id_column: str, asked: Mapping[str, str]
) -> pa.Schema:
    """`columns` with types that fit every file: numbers widen, and a type wins over none.

    `asked` has, for messages, what asks for a column, such as `catalog.display names`.

    Raises:
        CatalogError: A column is absent, doubled, or of types that do not go together; the id is no scalar.
    """
    fields = []
    for column in columns:
        kind, source = pa.null(), ""
        _require(tables, column, asked.get(column, ""))
        for table in tables:
            found = _type_in(table, column)
            together = _together(kind, found, exact=column == id_column)
            if together is None:
                raise CatalogError(
                    f"column {column!r} is {kind} in {source} and {found} in {table.name}",
                    hint="write both with one type, or set catalog.types for CSV and JSONL",
                )
            if together != kind:
                kind, source = together, table.name
        fields.append(pa.field(column, pa.string() if pt.is_null(kind) else kind))
    return pa.schema(fields)


def _type_in(table: TableFile, column: str) -> pa.DataType:
    at = table.schema.get_all_field_indices(column)
    if len(at) > 1:
        raise CatalogError(f"{table.name}: {len(at)} columns are named {column!r}", hint="rename all but one")
    return table.schema.field(at[0]).type if at else pa.null()


def _require(tables: Sequence[TableFile], column: str, asked: str) -> None:
    """Refuse a column that some file should have and has not."""
    lacking = [table for table in tables if column not in table.schema.names]
    wrong = [table for table in lacking if table.absent == "error"]
    if not wrong and len(lacking) == len(tables):
        wrong = [table for table in lacking if table.absent == "null"]
    if not wrong:
        return
    names = list(dict.fromkeys(name for table in tables for name in table.schema.names))
    if column in names:
        has = next(table.name for table in tables if column in table.schema.names)
        raise CatalogError(
            f"column {column!r} is in {has}, but not in {wrong[0].name}", hint="write it to both"
        )
    near = _nearest(column, names)
    guess = f"did you mean {near!r}? " if near else ""
    which = f", which {asked}" if asked else ""
    raise CatalogError(
        f"{wrong[0].name}: no column {column!r}{which}", hint=f"{guess}it has: {_listed(names)}"
    )


def _nearest(column: str, names: Sequence[str]) -> str | None:
    """The name that is most like it, whatever the case of either."""
    lowered = {name.lower(): name for name in reversed(names)}
    near = difflib.get_close_matches(column.lower(), lowered, n=1)
    return lowered[near[0]] if near else None


def _listed(names: Sequence[str], most: int = 30) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _together(one: pa.DataType, other: pa.DataType, *, exact: bool) -> pa.DataType | None:
    """The type that holds both, or None. `exact` ones are ids: integers and floats stay apart."""
    if one == other or pt.is_null(other):
        return one
    if pt.is_null(one):
        return other
    if not same_family(one, other) or (exact and pt.is_floating(one) != pt.is_floating(other)):
        return None
    try:
        schemas = [pa.schema([("x", one)]), pa.schema([("x", other)])]
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        return None


def same_family(one: pa.DataType, other: pa.DataType) -> bool:
    """Whether values of both types can be compared: both numbers, both text, both dates, …"""
    return _family(one) == _family(other)


def is_number(kind: pa.DataType) -> bool:
    """Whether values of the type are integers, floats or decimals."""
    return bool(pt.is_integer(kind) or pt.is_floating(kind) or pt.is_decimal(kind))


def _family(kind: pa.DataType) -> str:
    if is_number(kind):
        return "number"
    if pt.is_binary(kind) or pt.is_fixed_size_binary(kind):
        return "binary"
    if pt.is_timestamp(kind):
        return "timestamp" if kind.tz is None else "timestamp with a zone"
    return "date" if pt.is_date(kind) else str(kind).split("<", 1)[0]
