"""Canonical values: what means the same is the same bytes in every column type, and nothing else is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from embedmill.errors import CatalogError
from embedmill.model import canonical_columns
from embedmill.spec import EncoderInputs

WORDS = st.text("ab\u00e9\U0001f34e\0", min_size=1, max_size=4)
LISTS = st.lists(st.none() | st.lists(st.none() | WORDS | st.just(""), max_size=4), max_size=5)


def canonical(kind: str, column: pa.Array, **declared: Any) -> list[bytes]:
    (found,), _ = both(kind, column, **declared)
    return found


def both(kind: str, column: pa.Array, **declared: Any) -> tuple[list[list[bytes]], list[bool]]:
    section: dict[str, Any] = {"field": "x", **declared}
    inputs = EncoderInputs.model_validate({"it": {kind: section}})
    columns, empty = canonical_columns(inputs, pa.record_batch({"x": column}))
    return [list(found.values) for found in columns], empty.tolist()


def category(column: pa.Array) -> list[bytes]:
    return canonical("category", column, vocabulary="v")


def tags(column: pa.Array, **declared: Any) -> list[bytes]:
    return canonical("categories", column, **({"vocabulary": "v", "length": 9} | declared))


def sets(column: pa.Array, **declared: Any) -> list[bytes]:
    return canonical("categories", column, vocabulary="v", encoding="multi_hot", **declared)


@example([0.0, -0.0, None, math.nan, -math.nan, 1.0, 1.0])
@given(st.lists(st.none() | st.floats(), max_size=8))
def test_numbers_are_told_apart_by_value_alone(values: Sequence[float | None]) -> None:
    made = canonical("number", pa.array(values, pa.float64()))
    meant = [None if v is None else "nan" if math.isnan(v) else v + 0.0 for v in values]
    for one, its in zip(meant, made, strict=True):
        for other, others in zip(meant, made, strict=True):
            assert (one == other) == (its == others)


@example([2**53 - 1, 2**53, 2**53 + 1, 2**53 + 2, -(2**53) - 1, -(2**53), None, 2**63 - 1])
@given(st.lists(st.none() | st.integers(2**53 - 2, 2**53 + 4) | st.integers(-(2**63), 2**63 - 1), max_size=8))
def test_integers_beyond_two_to_the_53_stay_apart_from_their_neighbours(values: Sequence[int | None]) -> None:
    made = canonical("number", pa.array(values, pa.int64()))
    for one, its in zip(values, made, strict=True):
        for other, others in zip(values, made, strict=True):
            assert (one == other) == (its == others)


@given(st.lists(st.none() | st.integers(-100, 100), max_size=8))
def test_a_number_reads_the_same_from_every_column_type(values: Sequence[int | None]) -> None:
    kinds = [pa.int8(), pa.int32(), pa.int64(), pa.float16(), pa.float32(), pa.float64(), pa.decimal128(9, 3)]
    made = [canonical("number", pa.array(values, pa.float64()).cast(kind)) for kind in kinds]
    assert all(each == made[0] for each in made)
    assert canonical("number", pa.array(values, pa.int64()).dictionary_encode()) == made[0]


@given(st.decimals("-1e15", "1e15", places=4))
def test_a_decimal_is_the_float_that_its_digits_read_as(value: Decimal) -> None:
    (found,) = canonical("number", pa.array([value], pa.decimal128(24, 4)))
    assert found == np.array(float(value) + 0.0, ">f8").tobytes()


def test_nan_is_missing_where_that_is_declared() -> None:
    values = pa.array([math.nan, math.inf, None, 1.0])
    assert both("number", values)[1] == [False, False, True, False]
    assert both("number", values, not_finite="missing")[1] == [True, True, True, False]
    huge = pa.array([2**60], pa.int64())
    assert both("number", huge, not_finite="missing")[1] == [False]


@given(st.lists(st.none() | WORDS | st.just(""), max_size=6))
def test_a_category_is_its_text_in_every_encoding(values: Sequence[str | None]) -> None:
    expected = [(value or "").encode() for value in values]
    plain = pa.array(values, pa.string())
    for column in (
        plain,
        plain.cast(pa.large_string()),
        plain.dictionary_encode(),
        plain.cast(pa.string_view()),
    ):
        assert category(column) == expected
    assert both("category", plain, vocabulary="v")[1] == [not value for value in values]


def test_integers_and_booleans_are_categories_as_they_are_written() -> None:
    assert (
        category(pa.array([7, None, -1], pa.int16()))
        == category(pa.array(["7", None, "-1"]))
        == [b"7", b"", b"-1"]
    )
    assert category(pa.array([True, False])) == [b"true", b"false"]


@given(LISTS, LISTS)
@example([["a", "b"], ["ab"]], [["b", "a"], ["a", "a"], ["a"]])
def test_lists_are_told_apart_by_their_values_in_order(one: list[Any], other: list[Any]) -> None:
    values = [*one, *other]
    made = tags(pa.array(values, pa.list_(pa.string())))
    meant = [[value for value in row or [] if value] for row in values]
    for first, its in zip(meant, made, strict=True):
        for second, others in zip(meant, made, strict=True):
            assert (first == second) == (its == others)


@given(LISTS, LISTS)
@example([["a", "a"], ["b", "a"]], [["a"], ["a", None, "b"]])
def test_sets_are_told_apart_by_their_values_in_any_order(one: list[Any], other: list[Any]) -> None:
    values = [*one, *other]
    made = sets(pa.array(values, pa.list_(pa.string())))
    meant = [{value for value in row or [] if value} for row in values]
    for first, its in zip(meant, made, strict=True):
        for second, others in zip(meant, made, strict=True):
            assert (first == second) == (its == others)


@given(LISTS)
def test_a_list_reads_the_same_from_every_column_type_and_from_a_slice(values: list[Any]) -> None:
    plain = pa.array(values, pa.list_(pa.string()))
    expected = tags(plain)
    assert tags(plain.cast(pa.large_list(pa.large_string()))) == expected
    assert tags(pa.array(values, pa.list_(pa.dictionary(pa.int8(), pa.string())))) == expected
    assert tags(pa.array(values, pa.list_view(pa.string()))) == expected
    assert tags(pa.concat_arrays([pa.array([["a"], None], plain.type), plain]).slice(2)) == expected


@given(st.lists(st.none() | st.tuples(WORDS, WORDS), max_size=5))
def test_lists_of_a_fixed_size_are_lists(values: list[Any]) -> None:
    rows = [None if row is None else list(row) for row in values]
    assert tags(pa.array(rows, pa.list_(pa.string(), 2))) == tags(pa.array(rows, pa.list_(pa.string())))


def test_a_text_with_a_separator_is_a_list() -> None:
    cut = sets(pa.array(["red, blue ,,\n", "", None, "a b"]), separator=",")
    assert cut == sets(pa.array([["blue", "red"], [], None, ["a b"]]))
    assert sets(pa.array([["red", "blue"]]), separator=",") == cut[:1]


def test_only_the_values_that_are_fed_belong_to_a_list() -> None:
    rows = pa.array([["a", "b", "c"], ["a", "b", "d"]])
    assert len(set(tags(rows, length=2))) == 1
    assert len(set(tags(rows, length=3))) == 2
    assert len(set(tags(rows, length=2, unknown="drop"))) == 2, "which are dropped is the vocabulary's matter"


def test_booleans_read_the_same_from_zero_and_one() -> None:
    expected = [b"1", b"0", b""]
    assert canonical("boolean", pa.array([True, False, None])) == expected
    assert canonical("boolean", pa.array([1, 0, None], pa.int64())) == expected
    assert canonical("boolean", pa.array([2, -1], pa.int8())) == [b"2", b"-1"]


def test_several_images_do_not_run_into_each_other() -> None:
    inputs = EncoderInputs.model_validate(
        {"it": {"image": {"field": ["a", "b"], "resize": {"height": 2, "width": 2}}}}
    )
    rows = pa.record_batch(
        {"a": pa.array([b"xy", b"x", b"xyz", None, None]), "b": pa.array([b"z", b"yz", None, b"xyz", None])}
    )
    (column,), empty = canonical_columns(inputs, rows)
    assert column.kind == "images"
    assert len(set(column.values)) == 5
    assert empty.tolist() == [False, False, False, False, True]


NUMBER_HINT = r"of CSV and JSONL files say `types: \{x: float64\}` in the catalog section"


@pytest.mark.parametrize(
    ("kind", "column", "message"),
    [
        ("number", pa.array(["1"]), rf"column 'x' is string, and a number input reads .* \({NUMBER_HINT}"),
        ("number", pa.array([True]), r"column 'x' is bool, .* \(`boolean` reads it\)"),
        ("number", pa.array([[1.0]]), r"column 'x' is list<.*>, and a number input"),
        (
            "boolean",
            pa.array(["yes"]),
            r"column 'x' is string, and a boolean input reads .*`types: \{x: bool\}`",
        ),
        ("boolean", pa.array([1.0]), "column 'x' is double, and a boolean input"),
        ("category", pa.array([1.0]), r"column 'x' is double, and a category .*whole numbers as integers"),
        ("category", pa.array([["a"]]), "column 'x' is list<.*>, and a category input reads texts"),
        ("categories", pa.array(["a,b"]), r"column 'x' is string, .*\(give the input a `separator`"),
        (
            "categories",
            pa.array([[1.5]]),
            "column 'x' is double, and a categories input reads lists of texts",
        ),
        ("categories", pa.array([[["a"]]]), "column 'x' is list<.*>, and a categories input reads lists of"),
        ("categories", pa.array([b"a"]), "column 'x' is binary, and a categories input"),
        ("bytes", pa.array(["a.jpg"]), "column 'x' is string, and the bytes input needs binary"),
    ],
)
def test_a_column_of_a_wrong_type_is_named_with_what_to_do(kind: str, column: pa.Array, message: str) -> None:
    options: dict[str, Any] = {"vocabulary": "v"} if kind.startswith("categor") else {}
    options |= {"length": 2} if kind == "categories" else {}
    with pytest.raises(CatalogError, match=message):
        canonical(kind, column, **options)


@pytest.mark.parametrize("kind", ["number", "boolean", "category", "categories", "bytes"])
def test_a_column_without_any_value_is_missing_everywhere(kind: str) -> None:
    options: dict[str, Any] = {"vocabulary": "v"} if kind.startswith("categor") else {}
    options |= {"length": 2} if kind == "categories" else {}
    assert both(kind, pa.nulls(2), **options) == ([[b"", b""]], [True, True])


def test_a_million_values_in_one_list_are_read() -> None:
    rows = pa.array([[f"t{n}" for n in range(1_000_000)], ["t0"]])
    first, second = tags(rows, length=1)
    assert first == second
