"""`where`: SQL's three-valued logic over Arrow batches, and refusals that say what is allowed."""

from __future__ import annotations

import contextlib
import datetime
import sqlite3
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedmill.catalog import compile_where
from embedmill.errors import SpecError

UTC = datetime.UTC
NOON = datetime.datetime(2026, 1, 31, 12)
ITEMS = pa.record_batch(
    {
        "id": pa.array([1, 2, 3, 4], pa.int64()),
        "small": pa.array([1, 2, 3, None], pa.int8()),
        "huge": pa.array([2**64 - 1, 0, 5, None], pa.uint64()),
        "title": pa.array(["red apple", "Green_Pear", "", None]),
        "price": pa.array([9.99, 10.0, -1.5, None], pa.float32()),
        "cost": pa.array([Decimal("1.20"), Decimal("5.00"), Decimal("-0.01"), None], pa.decimal128(10, 2)),
        "active": pa.array([True, False, True, None]),
        "day": pa.array(
            [NOON.date(), datetime.date(2025, 1, 1), datetime.date(2027, 1, 1), None], pa.date32()
        ),
        "at": pa.array([NOON, datetime.datetime(2025, 1, 1), None, None], pa.timestamp("ms")),
        "zoned": pa.array([NOON.replace(tzinfo=UTC), None, None, None], pa.timestamp("s", "UTC")),
        "group": pa.array(["a", "b", "a", None]).dictionary_encode(),
        "text": pa.array(["10", " 9.5 ", "", "ten"]),
        "flag": pa.array(["true", "0", None, "maybe"]),
        "two words": pa.array([1, 2, 3, 4]),
        "list": pa.array([[1], [2], [3], None]),
    }
)

TRUE_FOR = [
    ("id = 2", [2]),
    ("2 = id", [2]),
    ("id <> 2", [1, 3, 4]),
    ("id != 2", [1, 3, 4]),
    ("id < 2", [1]),
    ("2 <= id", [2, 3, 4]),
    ("3 > id", [1, 2]),
    ("id >= 2.5", [3, 4]),
    ("id = -1", []),
    ("id = 1e0", [1]),
    ("small = 500", []),
    ("small < 500", [1, 2, 3]),
    ("huge > -1", [1, 2, 3]),
    ("huge = 18446744073709551615", [1]),
    ("huge > id", [1, 3]),
    ("small = id", [1, 2, 3]),
    ("price = 9.99", [1]),
    ("price > 9.98 AND price < 10", [1]),
    ("cost = 1.2", [1]),
    ("cost >= 1.199", [1, 2]),
    ("cost < price", [1, 2]),
    ("title = 'red apple'", [1]),
    ("title = ''", [3]),
    ("title LIKE 'red%'", [1]),
    ("title LIKE '%_ppl_'", [1]),
    ("title NOT LIKE 'red%'", [2, 3]),
    ("title ILIKE 'GREEN%'", [2]),
    ("title NOT ILIKE '%e%'", [3]),
    ("active", [1, 3]),
    ("NOT active", [2]),
    ("active = true", [1, 3]),
    ("active <> true", [2]),
    ("true = active", [1, 3]),
    ("title IS NULL", [4]),
    ("title IS NOT NULL", [1, 2, 3]),
    ("NOT title IS NULL", [1, 2, 3]),
    ("id IN (1, 3, 99)", [1, 3]),
    ("id NOT IN (1, 3)", [2, 4]),
    ("small NOT IN (1)", [2, 3]),
    ("id IN (1, 2.5)", [1]),
    ("title IN ('', 'x')", [3]),
    ("id BETWEEN 2 AND 3", [2, 3]),
    ("small NOT BETWEEN 2 AND 3", [1]),
    ("day = DATE '2026-01-31'", [1]),
    ("day = '2026-01-31'", [1]),
    ("day > '2025-12-31'", [1, 3]),
    ("day < TIMESTAMP '2026-01-31 00:00:01'", [1, 2]),
    ("at >= '2026-01-31 12:00:00'", [1]),
    ("at > DATE '2025-06-01'", [1]),
    ("at < TIMESTAMP '2026-01-31 12:00:00.000001'", [1, 2]),
    ("zoned = '2026-01-31 12:00:00'", [1]),
    ("zoned <= DATE '2026-02-01'", [1]),
    ("group = 'a'", [1, 3]),
    ("group IN ('b')", [2]),
    ("group LIKE 'b'", [2]),
    ("group = title", []),
    ('"two words" = 3', [3]),
    ("text = 10", [1]),
    ("text < 10", [2]),
    ("text = '10'", [1]),
    ("text >= id", [1, 2]),
    ("flag", [1]),
    ("flag = false", [2]),
    ("(id = 1 OR id = 2) AND NOT (title = 'red apple')", [2]),
    ("id = 1 OR id = 2 AND title = 'x'", [1]),
    ("small = 4 OR active", [1, 3]),
    ("id = 1 -- the first", [1]),
    ("id = 1 AND title = 'it''s' OR id = 4", [4]),
]


@pytest.mark.parametrize(("text", "ids"), TRUE_FOR)
def test_rows_are_kept_where_the_filter_is_true(text: str, ids: list[int]) -> None:
    mask = compile_where(text, ITEMS.schema).mask(ITEMS)
    assert [i for i, keep in zip([1, 2, 3, 4], mask.tolist(), strict=True) if keep] == ids


REFUSED = [
    ("", "catalog.where: is empty"),
    ("   ", "catalog.where: is empty"),
    ("-- nothing", "incomplete"),
    ("id =", "incomplete"),
    ("id = 1 AND", "incomplete"),
    ("id = 1)", "is not a condition, near column 7"),
    ("(id = 1", "is not a condition"),
    ("title = 'x", "is not a condition"),
    ("id = 1 id = 2", "is not a condition"),
    ("id = 1; DROP TABLE x", "more than one condition"),
    ("id = 1 GROUP BY id", "more than one condition"),
    ("id = 1 UNION SELECT 1", "more than one condition"),
    ("SELECT 1", "incomplete"),
    ("lower(title) = 'x'", r"`LOWER\(title\) = 'x'` compares no column"),
    ("title = lower(title)", r"`LOWER\(title\)` is not a literal"),
    ("exists_(id)", "is not supported"),
    ("id IN (SELECT 1)", "is not supported"),
    ("EXISTS (SELECT 1)", "is not supported"),
    ("id + 1 = 2", "compares no column"),
    ("id * 2 > price", "`id \\* 2`"),
    ("id = NULL", "`NULL` is not a literal"),
    ("id IN (1, NULL)", "`NULL` is not a literal"),
    ("id IN ()", "is not supported"),
    ("id = ?", "is not a literal"),
    ("id IS TRUE", "is not supported"),
    ("id IS DISTINCT FROM 1", "is not supported"),
    ("CASE WHEN active THEN active END", "is not supported"),
    ("title || 'x' = 'y'", "compares no column"),
    ("title LIKE 'x' ESCAPE '!'", "is not supported"),
    ("title LIKE title", "needs a column and a 'pattern'"),
    ("id LIKE '1%'", "needs a text column, and 'id' is int64"),
    ("1 = 1", "compares no column"),
    ("true", "is not supported"),
    ("id", "stands alone, and 'id' is int64"),
    ("titel = 'x'", "`titel` is no column; did you mean 'title'"),
    ("items.title = 'x'", "`items.title` has a dot"),
    ("id = 'x'", "`'x'` does not go with column 'id', which is int64"),
    ("id = true", "does not go with column 'id'"),
    ("active = 1", "`1` does not go with column 'active', which is bool"),
    ("price = DATE '2026-01-31'", "does not go with column 'price'"),
    ("day = 'yesterday'", "does not go with column 'day'"),
    ("day = DATE '2026-02-31'", "is not a literal"),
    ("day = 5", "does not go with column 'day'"),
    ("list = 1", "does not go with column 'list'"),
    ("id = day", "compares int64 with date32"),
    ("id = CAST('1' AS INT)", "is not a literal"),
    ("*", "is not supported"),
    ("a[0] = 1", "compares no column"),
]


@pytest.mark.parametrize(("text", "why"), REFUSED)
def test_anything_else_is_refused_by_name_with_what_is_allowed(text: str, why: str) -> None:
    with pytest.raises(SpecError, match=why) as caught:
        compile_where(text, ITEMS.schema)
    assert "\n" not in str(caught.value)
    assert "allowed: = <>" in caught.value.hint


@pytest.mark.parametrize(("text", "said"), REFUSED)
def test_a_filter_is_called_what_its_writer_calls_it(text: str, said: str) -> None:
    with pytest.raises(SpecError, match=said.replace("catalog.where", "where")) as caught:
        compile_where(text, ITEMS.schema, "where")
    assert caught.value.message.startswith("where: ")


@pytest.mark.parametrize("text", ["-- nothing", "id ="])
def test_no_column_is_named_that_the_filter_does_not_have(text: str) -> None:
    with pytest.raises(SpecError) as caught:
        compile_where(text, ITEMS.schema)
    _, near, column = caught.value.message.partition("near column ")
    assert not near or int(column) <= len(text)


def test_columns_are_those_that_are_read_each_once() -> None:
    where = compile_where("price > 1 AND (title = 'x' OR price < 0) AND NOT active", ITEMS.schema)
    assert where.columns == ("price", "title", "active")


def test_a_text_that_is_no_number_is_a_problem_only_where_the_answer_hangs_on_it() -> None:
    rows = pa.record_batch({"kind": ["a", "b", "a", "a"], "price": ["5", "?", "?", ""]})
    found = compile_where("kind = 'a' AND price < 10", rows.schema).select(rows)
    assert found.keep.tolist() == [True, False, False, False]
    assert found.problems == {2: "catalog.where: price = '?' is not double"}


def test_a_problem_of_a_negated_or_listed_comparison_is_found() -> None:
    rows = pa.record_batch({"price": ["5", "?"]})
    for text in ("NOT price > 10", "price IN (5, 6)", "price NOT BETWEEN 6 AND 7"):
        found = compile_where(text, rows.schema).select(rows)
        assert found.keep.tolist() == [True, False]
        assert list(found.problems) == [1]


def test_long_lists_of_conditions_compile() -> None:
    text = " OR ".join(f"id = {i}" for i in range(0, 4000, 2))
    assert compile_where(text, ITEMS.schema).mask(ITEMS).tolist() == [False, True, False, True]


def test_a_filter_that_is_nested_too_deeply_is_refused_and_does_not_crash() -> None:
    with pytest.raises(SpecError, match="is not a condition"):
        compile_where("(" * 100_000 + "id = 1" + ")" * 100_000, ITEMS.schema)


def test_an_empty_batch_has_an_empty_mask() -> None:
    assert compile_where("id = 1 OR title LIKE 'x' OR text > 5", ITEMS.schema).mask(ITEMS[:0]).tolist() == []


LITERALS = {
    "i": st.integers(-3, 3).map(str),
    "f": st.sampled_from(["-1.5", "0", "0.25", "2", "1e0"]),
    "s": st.text("aB%_'", max_size=3).map(lambda text: "'" + text.replace("'", "''") + "'"),
    "b": st.sampled_from(["true", "false"]),
}
OPERATOR = st.sampled_from(["=", "<>", "!=", "<", "<=", ">", ">="])


@st.composite
def predicates(draw: st.DrawFn) -> str:
    column = draw(st.sampled_from("ifs"))
    literal = LITERALS[column]
    negated = draw(st.sampled_from(["", "NOT "]))
    match draw(st.sampled_from(["compare", "mirror", "in", "between", "null", "like", "column", "bool"])):
        case "compare":
            return f"{column} {draw(OPERATOR)} {draw(literal)}"
        case "mirror":
            return f"{draw(literal)} {draw(OPERATOR)} {column}"
        case "in":
            return f"{column} {negated}IN ({', '.join(draw(st.lists(literal, min_size=1)))})"
        case "between":
            return f"{column} {negated}BETWEEN {draw(literal)} AND {draw(literal)}"
        case "null":
            return f"{column} IS {negated}NULL"
        case "like":
            return f"s {negated}LIKE {draw(LITERALS['s'])}"
        case "column":
            return f"i {draw(OPERATOR)} f"
    return draw(st.sampled_from(["b", "b = true", "b = false", "b <> true"]))


CONDITIONS = st.recursive(
    predicates(),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["AND", "OR"]), inner).map(lambda parts: f"({' '.join(parts)})"),
        inner.map(lambda one: f"NOT ({one})"),
    ),
    max_leaves=6,
)
ROWS = st.lists(
    st.tuples(
        st.none() | st.integers(-3, 3),
        st.none() | st.sampled_from([-1.5, 0.0, 0.25, 2.0]),
        st.none() | st.text("aB%_'", max_size=3),
        st.none() | st.booleans(),
    ),
    min_size=1,
    max_size=6,
)


@given(ROWS, CONDITIONS)
def test_it_agrees_with_sqlite(rows: list[tuple[Any, ...]], condition: str) -> None:
    with contextlib.closing(sqlite3.connect(":memory:")) as database:
        database.execute("PRAGMA case_sensitive_like = ON")
        database.execute("CREATE TABLE t (n INTEGER, i INTEGER, f REAL, s TEXT, b BOOLEAN)")
        database.executemany(
            "INSERT INTO t VALUES (?, ?, ?, ?, ?)", [(n, *row) for n, row in enumerate(rows)]
        )
        expected = {n for (n,) in database.execute(f"SELECT n FROM t WHERE {condition}")}  # noqa: S608
    kinds = {"i": pa.int64(), "f": pa.float64(), "s": pa.string(), "b": pa.bool_()}
    columns = zip(*rows, strict=True)
    batch = pa.record_batch({n: pa.array(c, kinds[n]) for n, c in zip("ifsb", columns, strict=True)})
    mask = compile_where(condition, batch.schema).mask(batch)
    assert {n for n, keep in enumerate(mask.tolist()) if keep} == expected
