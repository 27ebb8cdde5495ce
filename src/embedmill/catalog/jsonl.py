"""JSON Lines files: an object a line; a missing key is null."""

from __future__ import annotations

import json
from itertools import islice
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from embedmill.catalog.base import BATCH_ROWS, Absent, Chunk, reading, shown
from embedmill.catalog.delimited import CHUNK_TEXT_BYTES, open_binary, text_column
from embedmill.catalog.schema import cast_where_possible, is_number
from embedmill.errors import CatalogError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

SAMPLE_ROWS = 10_000
MAX_LINE_BYTES = 64 << 20


class _Line(NamedTuple):
    number: int
    value: dict[str, Any]
    problem: str


class JsonlFile:
    """One JSON Lines file, plain or gzipped. Types are told from its first 10,000 rows; declared ones win.

    Integers and floats make float64, integers and texts make text, in lists too; a value that does not fit
    makes its row unreadable.
    """

    has_lines = True

    def __init__(self, name: str, path: Path, types: Mapping[str, pa.DataType]) -> None:
        """Read a sample."""
        self.name, self._path = name, path
        values: dict[str, list[Any]] = {}
        problem = ""
        with reading(name, "JSON Lines"), open_binary(path) as stream:
            for line in islice(_lines(stream), SAMPLE_ROWS):
                problem = problem or line.problem
                for key, value in line.value.items():
                    values.setdefault(key, []).append(value)
                if stream.tell() > CHUNK_TEXT_BYTES:
                    break
        if problem and not values:
            raise CatalogError(
                f"{name}: no line is a JSON object; the first is {problem}", hint="one object a line"
            )
        self.absent: Absent = "null" if values else "unknown"
        told = {column: _told_type(found) for column, found in values.items()}
        self.schema = pa.schema(list({**told, **types}.items()))

    def chunks(self, schema: pa.Schema) -> Iterator[Chunk]:
        """The rows, with the columns of `schema`."""
        with reading(self.name, "JSON Lines"), open_binary(self._path) as stream:
            lines: list[_Line] = []
            begun = 0
            for line in _lines(stream):
                lines.append(line)
                if len(lines) >= BATCH_ROWS or stream.tell() - begun > CHUNK_TEXT_BYTES:
                    yield self._chunk(lines, schema)
                    lines, begun = [], stream.tell()
            if lines:
                yield self._chunk(lines, schema)

    def _chunk(self, lines: list[_Line], schema: pa.Schema) -> Chunk:
        good = [line for line in lines if not line.problem]
        problems = {line.number: line.problem for line in lines if line.problem}
        columns = []
        for field in schema:
            values = [line.value.get(field.name) for line in good]
            column = typed_column(values, field.type)
            if column.null_count:
                for row in np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False)).tolist():
                    if values[row] is not None:
                        problem = _misfit(values[row], field.type)
                        problems.setdefault(good[row].number, f"column {field.name!r}: {problem}")
            columns.append(column)
        numbers = np.array([line.number for line in good], dtype=np.int64)
        rows = pa.RecordBatch.from_arrays(columns, schema=schema)
        return Chunk.of_lines(self.name, rows, numbers, problems)


def _misfit(value: object, kind: pa.DataType) -> str:
    """Why a value is none of its column."""
    if pt.is_struct(kind):
        return f"{shown(value)} is a JSON object, which is not a value of a column"
    return f"{shown(value)} is not of type {kind}"


def typed_column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """The values as `kind`; those that do not fit are null."""
    by_type: dict[type, list[int]] = {}
    for row, found in enumerate(map(type, values)):
        by_type.setdefault(found, []).append(row)
    parts = [_cast_values([values[row] for row in rows], found, kind) for found, rows in by_type.items()]
    if len(parts) <= 1:
        return parts[0] if parts else pa.nulls(0, kind)
    order = np.argsort(
        np.concatenate([np.array(rows, dtype=np.int64) for rows in by_type.values()]), kind="stable"
    )
    return pa.concat_arrays(parts).take(pa.array(order))


def _cast_values(values: list[Any], found: type, kind: pa.DataType) -> pa.Array:
    """Values of one Python type as `kind`, or null where JSON's value is of another nature."""
    if found is str:
        column, _ = text_column(values)
    elif found is int:
        column = _integers(values, kind)
    elif found is float and pt.is_decimal(kind):
        column = pa.array(list(map(repr, values)), pa.string())
    elif (found is float and is_number(kind)) or (found is bool and pt.is_boolean(kind)):
        column = pa.array(values)
    elif found is list and pt.is_list(kind):
        return _lists(values, kind)
    else:
        return pa.nulls(len(values), kind)
    return cast_where_possible(column, kind)


def _lists(values: list[list[Any]], kind: pa.ListType) -> pa.Array:
    """Lists as `kind`; one with a value that does not fit is null."""
    flat = [value for row in values for value in row]
    column = typed_column(flat, kind.value_type)
    offsets = np.cumsum([0, *map(len, values)])
    given = np.fromiter((value is not None for value in flat), np.bool_, len(flat))
    wrong = given & column.is_null().to_numpy(zero_copy_only=False)
    before = np.concatenate([[0], np.cumsum(wrong)])
    lost = before[offsets[1:]] > before[offsets[:-1]]
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), column, type=kind, mask=pa.array(lost))


def _integers(values: list[int], kind: pa.DataType) -> pa.Array:
    """The integers; as text for decimals and past 64 bits, which casts to whatever holds it."""
    if not pt.is_decimal(kind):
        try:
            return pa.array(values, pa.int64())
        except OverflowError:
            pass
    return pa.array([str(value) for value in values], pa.string())


def _told_type(values: list[Any]) -> pa.DataType:
    """The type that a sample of one column's values speaks for."""
    kinds = {type(value) for value in values} - {type(None)}
    if not kinds:
        return pa.null()
    if kinds <= {int, float}:
        return pa.float64() if float in kinds else _integer_type(values)
    if kinds == {bool}:
        return pa.bool_()
    if kinds == {list}:
        inner = _told_type([each for value in values if value is not None for each in value])
        return pa.list_(pa.string() if pt.is_null(inner) else inner)
    return pa.struct([]) if kinds == {dict} else pa.string()


def _integer_type(values: list[int | None]) -> pa.DataType:
    known = [value for value in values if value is not None]
    if min(known) >= -(2**63) and max(known) < 2**63:
        return pa.int64()
    return pa.uint64() if min(known) >= 0 and max(known) < 2**64 else pa.string()


def _lines(stream: IO[bytes]) -> Iterator[_Line]:
    """Every line that is not blank, parsed."""
    number = 0
    while raw := stream.readline(MAX_LINE_BYTES):
        number += 1
        if len(raw) == MAX_LINE_BYTES and not raw.endswith(b"\n"):
            while raw and not raw.endswith(b"\n"):
                raw = stream.readline(MAX_LINE_BYTES)
            yield _Line(number, {}, f"longer than {MAX_LINE_BYTES >> 20} MiB")
        elif raw.strip():
            yield _parsed(number, raw)


def _parsed(number: int, raw: bytes) -> _Line:
    try:
        value = json.loads(raw.decode("utf-8-sig" if number == 1 else "utf-8"))
    except UnicodeDecodeError:
        return _Line(number, {}, "not UTF-8 text")
    except json.JSONDecodeError as error:
        return _Line(number, {}, f"not JSON: {error.msg} at column {error.colno}")
    except (ValueError, RecursionError) as error:
        return _Line(number, {}, f"not JSON that can be read: {error}")
    if not isinstance(value, dict):
        return _Line(number, {}, f"a JSON {type(value).__name__}, not an object")
    return _Line(number, value, "")
