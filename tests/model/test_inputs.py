"""What an encoder sees of a row: rendered templates, image bytes, and which rows are empty."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedmill.errors import CatalogError
from embedmill.model import canonical_columns, render
from embedmill.spec import EncoderInputs

TITLE = {"input_ids": {"text": {"template": "{title}. {category}", "max_length": 9}}}
PHOTO = {"pixels": {"image": {"field": "photo", "resize": {"height": 8, "width": 8}}}}


def inputs(**declared: Any) -> EncoderInputs:
    return EncoderInputs.model_validate(declared)


def one(values: Any, kind: pa.DataType | None = None) -> pa.RecordBatch:
    return pa.record_batch({"x": pa.array(values, kind)})


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{title}", ["Shoe", ""]),
        ("{title}. {category}", ["Shoe. red", ". blue"]),
        ("[{category}]", ["[red]", "[blue]"]),
        ("{category}{category}", ["redred", "blueblue"]),
        ("{{{title}}} }}{{", ["{Shoe} }{", "{} }{"]),
        ("query: {title}\n", ["query: Shoe\n", "query: \n"]),
    ],
)
def test_templates_become_text_and_null_is_nothing(template: str, expected: list[str]) -> None:
    rows = pa.record_batch({"title": pa.array(["Shoe", None]), "category": pa.array(["red", "blue"])})
    assert render(template, rows).to_pylist() == expected


@given(st.lists(st.text() | st.none(), max_size=5))
def test_strings_are_taken_verbatim(values: list[str | None]) -> None:
    assert render("<{x}>", one(values, pa.string())).to_pylist() == [f"<{v or ''}>" for v in values]


@given(st.lists(st.floats() | st.none(), max_size=5))
def test_floats_are_written_as_python_does(values: list[float | None]) -> None:
    expected = ["" if v is None else repr(v) for v in values]
    assert render("{x}", one(values, pa.float64())).to_pylist() == expected


BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([0, -5, None], pa.int8(), ["0", "-5", ""]),
        ([2**64 - 1], pa.uint64(), ["18446744073709551615"]),
        ([True, False, None], pa.bool_(), ["true", "false", ""]),
        ([0.1, 1 / 3], pa.float32(), ["0.1", "0.33333334"]),
        ([np.float16(0.1)], pa.float16(), ["0.1"]),
        ([Decimal("1.10"), None], pa.decimal128(5, 2), ["1.10", ""]),
        ([dt.date(2024, 2, 3), None], pa.date32(), ["2024-02-03", ""]),
        ([dt.date(2024, 2, 3)], pa.date64(), ["2024-02-03"]),
        ([dt.datetime(2024, 2, 3, 10, 0, 0)], pa.timestamp("s"), ["2024-02-03T10:00:00"]),
        ([dt.datetime(2024, 2, 3, 10, 0, 0)], pa.timestamp("ns"), ["2024-02-03T10:00:00"]),
        ([dt.datetime(9999, 12, 31, 1, 2, 3, 40_000)], pa.timestamp("us"), ["9999-12-31T01:02:03.04"]),
        (
            [dt.datetime(2024, 2, 3, 10, 0, 0, tzinfo=BERLIN)],
            pa.timestamp("us", "Europe/Berlin"),
            ["2024-02-03T09:00:00Z"],
        ),
        ([dt.time(10, 20, 0), dt.time(0, 0, 0, 5000)], pa.time64("us"), ["10:20:00", "00:00:00.005"]),
        (["a", None], pa.dictionary(pa.int8(), pa.string()), ["a", ""]),
        (["a", None], pa.large_string(), ["a", ""]),
        ([None, None], pa.null(), ["", ""]),
    ],
)
def test_every_kind_of_field_has_one_way_to_be_written(
    values: Any, kind: pa.DataType, expected: list[str]
) -> None:
    assert render("{x}", one(values, kind)).to_pylist() == expected


@pytest.mark.parametrize("kind", [pa.binary(), pa.list_(pa.int64()), pa.duration("s"), pa.binary(4)])
def test_fields_without_one_way_to_be_written_are_a_catalog_error(kind: pa.DataType) -> None:
    with pytest.raises(CatalogError, match=r"column 'x' is .*of which no text can be made"):
        render("{x}", one([None], kind))


def test_canonical_columns_are_the_utf8_and_the_bytes_that_fingerprints_cover() -> None:
    rows = pa.record_batch(
        {
            "title": pa.array(["Schuh ü", "b", None]),
            "category": pa.array(["red", None, None]),
            "photo": pa.array([b"\x00digest", None, b""], pa.binary()),
            "price": pa.array([1.0, 2.0, 3.0]),
        }
    )
    columns, empty = canonical_columns(inputs(**TITLE, **PHOTO), rows)
    assert [(column.name, column.kind) for column in columns] == [("input_ids", "text"), ("pixels", "image")]
    assert list(columns[0].values) == ["Schuh ü. red".encode(), b"b. ", b". "]
    assert list(columns[1].values) == [b"\x00digest", b"", b""]
    assert empty.tolist() == [False, False, True]


def test_a_text_is_empty_when_all_its_fields_are_null_or_white_space() -> None:
    rows = pa.record_batch(
        {
            "title": pa.array([None, "", " \t\n\u00a0\u3000", " x", None, None]),
            "category": pa.array([None, " ", "", None, "y", "\u200b"]),
        }
    )
    assert canonical_columns(inputs(**TITLE), rows)[1].tolist() == [True, True, True, False, False, False]


def test_an_image_is_empty_when_null_or_without_bytes() -> None:
    rows = pa.record_batch({"photo": pa.array([None, b"", b"x"], pa.large_binary())})
    assert canonical_columns(inputs(**PHOTO), rows)[1].tolist() == [True, True, False]


def test_digests_of_fixed_size_may_stand_for_images() -> None:
    rows = pa.record_batch({"photo": pa.array([b"abcd", None], pa.binary(4))})
    columns, empty = canonical_columns(inputs(**PHOTO), rows)
    assert list(columns[0].values) == [b"abcd", b""]
    assert empty.tolist() == [False, True]


def test_no_rows_make_no_values() -> None:
    rows = pa.record_batch({"title": pa.array([], pa.string()), "category": pa.array([], pa.string())})
    columns, empty = canonical_columns(inputs(**TITLE), rows)
    assert list(columns[0].values) == []
    assert empty.shape == (0,)


def test_a_slice_is_seen_as_its_own_rows() -> None:
    rows = pa.record_batch({"title": ["a", "b", "c"], "category": ["x", "y", "z"]}).slice(1, 1)
    assert list(canonical_columns(inputs(**TITLE), rows)[0][0].values) == [b"b. y"]


def test_a_missing_column_is_named_with_its_input_and_the_columns_there_are() -> None:
    with pytest.raises(CatalogError, match=r"'input_ids' reads column 'category'.*there are: title, price"):
        canonical_columns(inputs(**TITLE), pa.record_batch({"title": ["a"], "price": [1]}))


def test_an_image_column_of_text_is_a_catalog_error() -> None:
    with pytest.raises(CatalogError, match="column 'photo' is string, and the image input needs binary"):
        canonical_columns(inputs(**PHOTO), pa.record_batch({"photo": ["a.png"]}))
