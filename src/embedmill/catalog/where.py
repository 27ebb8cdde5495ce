"""Filters in SQL's WHERE syntax, over Arrow batches: `catalog.where`, and `where` of searches."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial, reduce
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from embedmill.arrow import plain_array, plain_schema
from embedmill.catalog.base import shown
from embedmill.catalog.literals import fit_literal, literal_value
from embedmill.catalog.schema import (
    cast_where_possible,
    is_number,
    lost,
    same_family,
)
from embedmill.errors import SpecError

if TYPE_CHECKING:
    from sqlglot import exp

    from embedmill.types import Mask

ALLOWED = (
    "allowed: = <> < <= > >=, AND, OR, NOT, IN (…), BETWEEN, LIKE, ILIKE, IS NULL, columns, 'text', numbers, "
    "true, false, DATE '2026-01-31', TIMESTAMP '2026-01-31 12:00:00'"
)
OF_CATALOG = "catalog.where"
"""What errors call a filter, unless it stands elsewhere."""
BEFORE = "SELECT 1 WHERE\n"
"""What makes a statement of a condition; on a line of its own, so that columns are the condition's."""


class Selection(NamedTuple):
    """`keep`: bool[N], rows for which the filter is true. `problems`: rows that it cannot judge, and why."""

    keep: Mask
    problems: dict[int, str]


@dataclass
class _Batch:
    """A batch under the filter, and the values in it that could not be compared."""

    rows: pa.RecordBatch
    problems: dict[int, str] = field(default_factory=dict)


_Test: TypeAlias = Callable[[_Batch], pa.BooleanArray]
_Side: TypeAlias = tuple[str, pa.DataType]
"""A column, and the type that it is compared in."""


class Filter:
    """A compiled `where`; `columns` are those it reads."""

    def __init__(self, columns: tuple[str, ...], test: _Test) -> None:
        """Hold the test, which gives true, false or null for each row."""
        self.columns = columns
        self._test = test

    def mask(self, batch: pa.RecordBatch) -> Mask:
        """bool[N]: the rows for which the filter is true; null is not true."""
        return self.select(batch).keep

    def select(self, batch: pa.RecordBatch) -> Selection:
        """The mask, and the rows that hang on a text which is compared with a number but is none."""
        seen = _Batch(batch)
        truth = self._test(seen)
        unknown = truth.is_null().to_numpy(zero_copy_only=False)
        problems = {row: said for row, said in sorted(seen.problems.items()) if unknown[row]}
        return Selection(truth.fill_null(False).to_numpy(zero_copy_only=False), problems)


def where_columns(text: str, named: str = OF_CATALOG) -> tuple[str, ...]:
    """Columns that the filter reads, in order of first use; errors call the filter `named`.

    Raises:
        SpecError: It is not a filter.
    """
    from sqlglot import exp

    tree = _parsed(text, named)
    return tuple(dict.fromkeys(column.name for column in tree.find_all(exp.Column, bfs=False)))


def compile_where(text: str, schema: pa.Schema, named: str = OF_CATALOG) -> Filter:
    """Check the filter against the columns' types, and make it ready to run.

    Errors call the filter `named`, as whoever wrote it does.
    A text column that is compared with a number, boolean or date is cast; an empty text or one that does not
    cast is compared as null is.

    Raises:
        SpecError: The syntax is wrong, a construct is not supported, a column is unknown, or types do not go
            together.
    """
    return Filter(where_columns(text, named), _Compiler(schema, named).test(_parsed(text, named)))


def _parsed(text: str, named: str) -> exp.Expression:
    """The condition's syntax tree."""
    import sqlglot
    from sqlglot import exp

    if not text.strip():
        raise SpecError(f"{named}: is empty", hint=ALLOWED)
    try:
        statements = sqlglot.parse(f"{BEFORE}{text}")
    except sqlglot.errors.ParseError as error:
        first = error.errors[0]
        what = "is incomplete" if "missing" in first["description"] else "is not a condition"
        near = f", near column {first['col']}" if first["line"] > BEFORE.count("\n") else ""
        raise SpecError(f"{named}: {text!r} {what}{near}", hint=ALLOWED) from None
    except (sqlglot.errors.SqlglotError, RecursionError):
        raise SpecError(f"{named}: {text!r} is not a condition", hint=ALLOWED) from None
    statement = statements[0] if len(statements) == 1 else None
    if not isinstance(statement, exp.Select) or {k for k, v in statement.args.items() if v} != {
        "expressions",
        "where",
    }:
        raise SpecError(f"{named}: {text!r} is more than one condition", hint=ALLOWED)
    return statement.args["where"].this


class _Compiler:
    """Turns a syntax tree into tests that run on batches."""

    def __init__(self, schema: pa.Schema, named: str) -> None:
        self._schema = plain_schema(schema)
        self._named = named

    def test(self, node: exp.Expression) -> _Test:
        """A test that is true, false or null for each row."""
        from sqlglot import exp

        match node:
            case exp.Paren():
                return self.test(node.this)
            case exp.And() | exp.Or():
                join = pc.and_kleene if isinstance(node, exp.And) else pc.or_kleene
                return partial(_joined, join, [self.test(part) for part in node.flatten()])
            case exp.Not():
                return partial(_negated, self.test(node.this))
            case exp.Is(this=exp.Column(), expression=exp.Null()):
                return partial(_is_null, self._name(node.this))
            case exp.Column():
                return self._boolean_column(node)
        return partial(_negated, self._predicate(node)) if node.args.get("negate") else self._predicate(node)

    def _predicate(self, node: exp.Expression) -> _Test:
        from sqlglot import exp

        match node:
            case exp.Between():
                low = exp.GTE(this=node.this, expression=node.args["low"])
                high = exp.LTE(this=node.this, expression=node.args["high"])
                return partial(_joined, pc.and_kleene, [self._comparison(low), self._comparison(high)])
            case exp.In(this=exp.Column()) if node.expressions:
                return self._is_in(node)
            case exp.Like() | exp.ILike():
                return self._like(node)
            case exp.EQ() | exp.NEQ() | exp.LT() | exp.LTE() | exp.GT() | exp.GTE():
                return self._comparison(node)
        raise self._refused(node, "is not supported")

    def _comparison(self, node: exp.Expression) -> _Test:
        from sqlglot import exp

        left, right, operator = node.this, node.expression, type(node).__name__
        if not isinstance(left, exp.Column):
            left, right, operator = right, left, _MIRRORED.get(operator, operator)
        if not isinstance(left, exp.Column):
            raise self._refused(node, "compares no column")
        one = self._name(left)
        if isinstance(right, exp.Column):
            other = self._name(right)
            kind_one, kind_other = self._kinds(node, one, other)
            return partial(_compared, _OPERATORS[operator], (one, kind_one), (other, kind_other))
        kind, value = self._literal(right, one)
        return partial(_compared, _OPERATORS[operator], (one, kind), value)

    def _is_in(self, node: exp.In) -> _Test:
        name = self._name(node.this)
        values: dict[pa.DataType, list[pa.Scalar]] = {}
        for literal in node.expressions:
            kind, value = self._literal(literal, name)
            values.setdefault(kind, []).append(value)
        tests: list[_Test] = [
            partial(_is_in, (name, kind), pa.array([v.as_py() for v in found], found[0].type))
            for kind, found in values.items()
        ]
        return partial(_joined, pc.or_kleene, tests)

    def _like(self, node: exp.Like | exp.ILike) -> _Test:
        from sqlglot import exp

        pattern = node.expression
        if (
            not isinstance(node.this, exp.Column)
            or not isinstance(pattern, exp.Literal)
            or not pattern.is_string
        ):
            raise self._refused(node, "needs a column and a 'pattern'")
        name = self._name(node.this)
        if not pt.is_string(self._schema.field(name).type):
            raise self._refused(node, f"needs a text column, and {name!r} is {self._schema.field(name).type}")
        return partial(_like, name, pattern.this, isinstance(node, exp.ILike))

    def _boolean_column(self, node: exp.Column) -> _Test:
        name = self._name(node)
        kind = self._schema.field(name).type
        if not (pt.is_boolean(kind) or pt.is_string(kind)):
            raise self._refused(node, f"stands alone, and {name!r} is {kind}, not bool")
        return partial(_values, (name, pa.bool_()))

    def _name(self, node: exp.Column) -> str:
        name: str = node.name
        if len(node.parts) > 1:
            raise self._refused(node, "has a dot; write names with dots in double quotes")
        if len(self._schema.get_all_field_indices(name)) != 1:
            near = difflib.get_close_matches(name, self._schema.names, n=1)
            raise self._refused(node, "is no column" + (f"; did you mean {near[0]!r}?" if near else ""))
        return name

    def _kinds(self, node: exp.Expression, one: str, other: str) -> tuple[pa.DataType, pa.DataType]:
        """The types to compare two columns in: a text column takes the other's, or float64 beside numbers."""
        kinds = self._schema.field(one).type, self._schema.field(other).type
        if same_family(*kinds):
            return kinds
        for text, typed in (kinds, kinds[::-1]):
            if pt.is_string(text):
                both = pa.float64() if is_number(typed) else typed
                return both, both
        raise self._refused(node, f"compares {kinds[0]} with {kinds[1]}")

    def _literal(self, node: exp.Expression, name: str) -> tuple[pa.DataType, pa.Scalar]:
        """The type to cast column `name` to, and the literal to compare it with."""
        column = self._schema.field(name).type
        try:
            found = literal_value(node)
        except (ValueError, ArithmeticError):
            raise self._refused(node, "is not a literal; compare columns with literals or columns") from None
        fitted = fit_literal(found, column)
        if fitted is None:
            raise self._refused(node, f"does not go with column {name!r}, which is {column}")
        return fitted

    def _refused(self, node: exp.Expression, why: str) -> SpecError:
        return SpecError(f"{self._named}: `{node.sql()}` {why}", hint=ALLOWED)


def _joined(join: Callable[..., pa.Array], tests: list[_Test], batch: _Batch) -> pa.BooleanArray:
    return reduce(join, (test(batch) for test in tests))


def _negated(test: _Test, batch: _Batch) -> pa.BooleanArray:
    return pc.invert(test(batch))


def _is_null(name: str, batch: _Batch) -> pa.BooleanArray:
    return batch.rows.column(name).is_null()


def _like(name: str, pattern: str, ignore_case: bool, batch: _Batch) -> pa.BooleanArray:
    return pc.match_like(plain_array(batch.rows.column(name)), pattern, ignore_case=ignore_case)


def _is_in(side: _Side, values: pa.Array, batch: _Batch) -> pa.BooleanArray:
    column = _values(side, batch)
    return pc.if_else(column.is_valid(), pc.is_in(column, values), pa.scalar(None, pa.bool_()))


def _compared(
    operator: Callable[..., pa.Array], left: _Side, right: _Side | pa.Scalar, batch: _Batch
) -> pa.BooleanArray:
    one = _values(left, batch)
    other = right if isinstance(right, pa.Scalar) else _values(right, batch)
    try:
        return operator(one, other)
    except pa.ArrowInvalid:  # numbers with no common exact type, such as uint64 and int64
        return operator(one.cast(pa.float64(), safe=False), other.cast(pa.float64(), safe=False))


def _values(side: _Side, batch: _Batch) -> pa.Array:
    """A column in the type that it is compared in; text that is no such value is null, and a problem."""
    name, kind = side
    column = plain_array(batch.rows.column(name))
    if column.type == kind or not pt.is_string(column.type):
        return column.cast(kind, safe=False)
    trimmed = pc.utf8_trim_whitespace(column)
    text = pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.string()), trimmed)
    cast = cast_where_possible(text, kind)
    for row in np.flatnonzero(lost(text, cast)).tolist():
        batch.problems.setdefault(row, f"{OF_CATALOG}: {name} = {shown(text[row].as_py())} is not {kind}")
    return cast


_OPERATORS: dict[str, Callable[..., pa.Array]] = {
    "EQ": pc.equal,
    "NEQ": pc.not_equal,
    "LT": pc.less,
    "LTE": pc.less_equal,
    "GT": pc.greater,
    "GTE": pc.greater_equal,
}
_MIRRORED = {"LT": "GT", "LTE": "GTE", "GT": "LT", "GTE": "LTE"}
