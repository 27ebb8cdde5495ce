"""Rows that share a fingerprint are fed alike: else one of them would get the other's vector."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from embedmill.model import canonical_columns
from embedmill.model.feeding import Feed, Ready
from embedmill.model.value_feeds import BooleanFeed, CategoriesFeed, CategoryFeed, NumberFeed
from embedmill.model.vocabulary import Vocabulary
from embedmill.runtimes import TensorSpec
from embedmill.spec import BooleanInput, CategoriesInput, CategoryInput, EncoderInputs, NumberInput

VOCABULARY = Vocabulary(pa.array(["a", "b", "7", "true"], pa.large_string()))
WORDS = st.none() | st.sampled_from(["", "a", "b", "c", "7"])
NUMBERS = st.one_of(
    st.floats(width=64).map(lambda value: pa.array([value], pa.float64())),
    st.floats(width=32).map(lambda value: pa.array([value], pa.float32())),
    st.sampled_from([0, 1, -1, 2**53, 2**53 + 1, 2**53 + 2, -(2**53) - 1, 255, 256]).map(
        lambda value: pa.array([value], pa.int64())
    ),
    st.sampled_from([2**53 + 1, 2**64 - 1, 7]).map(lambda value: pa.array([value], pa.uint64())),
    st.sampled_from([Decimal(2**53 + 1), Decimal("0.5"), Decimal(1)]).map(
        lambda value: pa.array([value], pa.decimal128(30, 2))
    ),
    st.just(pa.array([None], pa.float64())),
    st.just(pa.nulls(1)),
)
LISTS = st.lists(WORDS, max_size=4)
PAIRS_OF_LISTS = st.one_of(
    st.tuples(LISTS, LISTS, LISTS).map(lambda parts: (parts[0] + parts[1], parts[0] + parts[2])),
    LISTS.flatmap(lambda values: st.tuples(st.just(values), st.permutations(values))),
    st.tuples(LISTS, st.none()),
)
"""Of one beginning, of one set, and one that is missing: such share a fingerprint now and then."""


def target(dtype: str, *shape: int) -> TensorSpec:
    return TensorSpec("it", dtype, ("rows", *shape))


def seen(feed: Feed, key: str, column: pa.Array) -> tuple[bytes, Any]:
    """The canonical bytes of a row, and all that the model or the quarantine would see of it."""
    rows = pa.record_batch({"x": column})
    spec: Any = feed
    inputs = EncoderInputs.model_validate({"it": {key: spec.spec.model_dump()}})
    (canonical,), _ = canonical_columns(inputs, rows)
    ready: Ready = feed.prepare(rows)
    if ready.rejected:
        return canonical.values[0], ready.rejected[0].reason
    arrays = ready.feed(np.zeros(1, np.int64))
    return canonical.values[0], {name: array.tolist() for name, array in arrays.items()}


def assert_covered(feed: Feed, key: str, one: pa.Array, other: pa.Array) -> None:
    (print_one, fed_one), (print_other, fed_other) = seen(feed, key, one), seen(feed, key, other)
    if print_one == print_other:
        assert fed_one == fed_other


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint8"])
@pytest.mark.parametrize(
    "declared",
    [
        {},
        {"missing": 0.0, "not_finite": "missing", "indicator": "i"},
        {"transform": "log1p", "mean": 0.5, "std": 2.0},
    ],
    ids=str,
)
@example(one=pa.array([2**53], pa.int64()), other=pa.array([2**53 + 1], pa.int64()))
@example(one=pa.array([2**53 + 1], pa.uint64()), other=pa.array([2.0**53]))
@example(one=pa.array([-0.0]), other=pa.array([0], pa.int8()))
@example(one=pa.array([float("nan")]), other=pa.array([None], pa.float64()))
@given(one=NUMBERS, other=NUMBERS)
def test_numbers(dtype: str, declared: dict[str, Any], one: pa.Array, other: pa.Array) -> None:
    indicator = TensorSpec("i", "float32", ("rows",)) if "indicator" in declared else None
    feed = NumberFeed(target(dtype), NumberInput(field="x", **declared), indicator)
    assert_covered(feed, "number", one, other)


@pytest.mark.parametrize("unknown", ["reject", "drop", 9])
@pytest.mark.parametrize("encoding", ["padded", "multi_hot"])
@pytest.mark.parametrize("missing", ["empty", "reject"])
@example(lists=(["a", "b", "c"], ["a", "b", "7"]))
@example(lists=(["c", "a", "b"], ["c", "a", "7"]))
@example(lists=(["a", "b", "a"], ["b", None, "a"]))
@given(lists=PAIRS_OF_LISTS)
def test_lists(unknown: Any, encoding: Any, missing: Any, lists: tuple[Any, Any]) -> None:
    length = 2 if encoding == "padded" else None
    spec = CategoriesInput(
        field="x", vocabulary="v", unknown=unknown, encoding=encoding, missing=missing, length=length
    )
    feed = CategoriesFeed(target("int64", length or 10), spec, VOCABULARY, None)
    kind = pa.list_(pa.string())
    one, other = (pa.array([values], kind) for values in lists)
    assert_covered(feed, "categories", one, other)


@pytest.mark.parametrize(("unknown", "missing"), [("reject", "reject"), (9, "unknown"), (9, 8)])
@given(one=WORDS, other=st.sampled_from([pa.array([7]), pa.array([True]), pa.array([""]), pa.nulls(1)]))
def test_categories(unknown: Any, missing: Any, one: str | None, other: pa.Array) -> None:
    spec = CategoryInput(field="x", vocabulary="v", unknown=unknown, missing=missing)
    feed = CategoryFeed(target("int64"), spec, VOCABULARY)
    assert_covered(feed, "category", pa.array([one], pa.string()), other)


@pytest.mark.parametrize("missing", ["reject", True, False])
@given(one=st.none() | st.booleans(), other=st.none() | st.integers(-1, 2))
def test_booleans(missing: Any, one: bool | None, other: int | None) -> None:
    feed = BooleanFeed(target("float32"), BooleanInput(field="x", missing=missing))
    assert_covered(feed, "boolean", pa.array([one], pa.bool_()), pa.array([other], pa.int64()))
