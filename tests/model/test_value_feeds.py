"""Categories, lists, numbers and booleans: what the model is fed, read off models that give it back."""

from __future__ import annotations

import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from onnx import TensorProto
from tests.one_input import loaded, mirror_package, numbers_package

from embedmill.errors import ModelError
from embedmill.model.vocabulary import MOST_VALUES
from embedmill.types import Encoded

INT64, INT32, FLOAT, BOOL = TensorProto.INT64, TensorProto.INT32, TensorProto.FLOAT, TensorProto.BOOL


def category(
    folder: Path, *, kind: int = INT64, vocabulary: str = "red\ngreen\nblue\n", **declared: Any
) -> Path:
    item = {"it": {"category": {"field": "x", "vocabulary": "words.txt", **declared}}}
    return mirror_package(folder, item, ("it", kind, ()), dimension=1, vocabulary=vocabulary)


def tags(
    folder: Path, *, width: int | str = 3, kind: int = INT64, mask: bool = False, **declared: Any
) -> Path:
    section = {"field": "x", "vocabulary": "words.txt", **({"mask": "mask"} if mask else {}), **declared}
    inputs = [("it", kind, (width,)), *([("mask", BOOL, (width,))] if mask else [])]
    dimension = (width if isinstance(width, int) else 4) * len(inputs)
    return mirror_package(folder, {"it": {"categories": section}}, *inputs, dimension=dimension)


def number(folder: Path, *, kind: int = FLOAT, **declared: Any) -> Path:
    return numbers_package(folder, {"it": {"number": {"field": "x", **declared}}}, kind)


def fed(folder: Path, values: Any, kind: pa.DataType | None = None) -> Encoded:
    return loaded(folder).encode(pa.record_batch({"x": pa.array(values, kind)}))


def said(encoded: Encoded) -> dict[int, str]:
    return {row: f"{why.reason}: {why.detail}" for row, why in encoded.rejected.items()}


def test_a_category_is_its_line(tmp_path: Path) -> None:
    made = fed(category(tmp_path / "p"), ["blue", "red", "green"])
    assert made.vectors_ND.tolist() == [[2], [0], [1]]


@pytest.mark.parametrize("kind", [INT64, INT32, FLOAT])
def test_a_table_of_keras_is_matched_by_offset_unknown_and_missing(tmp_path: Path, kind: int) -> None:
    """StringLookup(mask_token=""): 0 is missing, 1 is unknown, the vocabulary begins at 2."""
    folder = category(tmp_path / "p", kind=kind, offset=2, unknown=1, missing=0)
    assert fed(folder, ["red", "pink", None, "", "blue"]).vectors_ND.tolist() == [[2], [1], [0], [0], [4]]


def test_the_whole_vocabulary_of_keras_has_its_own_lines_for_missing_and_unknown(tmp_path: Path) -> None:
    """`get_vocabulary()` written out: an empty line for the mask, then [UNK]."""
    folder = category(tmp_path / "p", vocabulary="\n[UNK]\nred\n", unknown=1, missing=0)
    assert fed(folder, ["red", "pink", None, ""]).vectors_ND.tolist() == [[2], [1], [0], [0]]


def test_a_missing_category_may_be_an_unknown_one(tmp_path: Path) -> None:
    folder = category(tmp_path / "p", offset=1, unknown=0, missing="unknown")
    assert fed(folder, ["red", None]).vectors_ND.tolist() == [[1], [0]]


def test_categories_may_be_integers_and_lines_may_end_as_on_windows(tmp_path: Path) -> None:
    folder = category(tmp_path / "p", vocabulary="\ufeff10\r\n-20\r\n")
    assert fed(folder, [-20, 10], pa.int16()).vectors_ND.tolist() == [[1], [0]]


def test_without_a_policy_unknown_and_missing_categories_are_rejected(tmp_path: Path) -> None:
    made = fed(category(tmp_path / "p"), ["red", "pink\n", None, "Red"])
    assert said(made) == {
        1: r"value-unknown: column 'x': 'pink\n' is not in the vocabulary",
        2: "value-missing: column 'x' has no value",
        3: "value-unknown: column 'x': 'Red' is not in the vocabulary",
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the vocabulary is empty"),
        (b"\n\n", "the vocabulary is empty"),
        (b"a\nb\nc\nb\n", r"words.txt:4: the value 'b' is in line 2 already"),
        (b"a\n\xff\n", "is not UTF-8 text: invalid start byte at byte 2"),
        (
            b"".join(b"%d\n" % n for n in range(MOST_VALUES + 1)),
            "has 1000001 values, and 1000000 are the most",
        ),
    ],
)
def test_a_vocabulary_that_cannot_be_used_is_a_model_error_with_its_line(
    tmp_path: Path, content: bytes, message: str
) -> None:
    folder = category(tmp_path / "p")
    (folder / "words.txt").write_bytes(content)
    with pytest.raises(ModelError, match=message):
        loaded(folder)


LISTS = [["red", "blue"], [], None, ["blue", None, "", "green", "red", "green"]]


def test_lists_are_padded_and_cut_in_their_order(tmp_path: Path) -> None:
    made = fed(tags(tmp_path / "p", length=3, offset=1), LISTS)
    assert made.vectors_ND.tolist() == [[1, 3, 0], [0, 0, 0], [0, 0, 0], [3, 2, 1]]


def test_a_mask_tells_values_from_padding(tmp_path: Path) -> None:
    made = fed(tags(tmp_path / "p", length=3, mask=True), LISTS)
    assert made.vectors_ND.tolist() == [[0, 2, 0, 1, 1, 0], [0] * 6, [0] * 6, [2, 1, 0, 1, 1, 1]]


def test_a_set_has_a_one_for_each_of_its_values(tmp_path: Path) -> None:
    made = fed(tags(tmp_path / "p", encoding="multi_hot", kind=FLOAT), LISTS)
    assert made.vectors_ND.tolist() == [[1, 0, 1], [0, 0, 0], [0, 0, 0], [1, 1, 1]]


def test_where_the_model_leaves_the_width_open_the_vocabulary_tells_it(tmp_path: Path) -> None:
    folder = tags(tmp_path / "p", encoding="multi_hot", kind=FLOAT, width="words", offset=1, unknown=0)
    assert fed(folder, [["pink", "blue"]]).vectors_ND.tolist() == [[1, 0, 0, 1]]


def test_unknown_values_of_a_list_are_dropped_or_kept_or_reject_their_item(tmp_path: Path) -> None:
    values = [["pink", "red"], ["grey", "pink"], ["blue"]]
    dropped = fed(tags(tmp_path / "drop", length=3, offset=1, unknown="drop"), values)
    assert dropped.vectors_ND.tolist() == [[1, 0, 0], [0, 0, 0], [3, 0, 0]]
    kept = fed(tags(tmp_path / "keep", length=3, offset=2, unknown=1), values)
    assert kept.vectors_ND.tolist() == [[1, 2, 0], [1, 1, 0], [4, 0, 0]]
    rejected = said(fed(tags(tmp_path / "reject", length=3, offset=1), values))
    assert rejected == {
        0: "value-unknown: column 'x': 'pink' is not in the vocabulary",
        1: "value-unknown: column 'x': 'grey' is not in the vocabulary",
    }


def test_an_empty_list_may_reject_its_item(tmp_path: Path) -> None:
    made = fed(tags(tmp_path / "p", length=3, offset=1, missing="reject"), LISTS)
    assert said(made) == dict.fromkeys([1, 2], "value-missing: column 'x' has no value")


def test_a_text_is_cut_at_its_separator(tmp_path: Path) -> None:
    folder = tags(tmp_path / "p", length=3, offset=1, separator=" | ")
    assert fed(folder, ["blue | red", "green", ""]).vectors_ND.tolist() == [[3, 1, 0], [2, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"length": 3}, "padding 0 is the index of 'red'; set `offset: 1`"),
        ({"length": 4, "offset": 1}, r"indices of categories are \[N, 4\], .* it: int64\[rows, 3\]"),
        (
            {"encoding": "multi_hot", "offset": 1},
            r"indices up to 3, past the width 3 of it: int64\[rows, 3\]",
        ),
        ({"encoding": "multi_hot", "unknown": 7}, "indices up to 7, past the width 3"),
    ],
)
def test_lists_that_do_not_fit_the_model_are_refused_at_load(
    tmp_path: Path, declared: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        loaded(tags(tmp_path / "p", **declared))


def test_numbers_are_transformed_then_standardised(tmp_path: Path) -> None:
    folder = number(tmp_path / "p", transform="log1p", mean=1.0, std=2.0)
    made = fed(folder, [0.0, math.e - 1, 1e9])
    np.testing.assert_allclose(made.vectors_ND[:, 0], [-0.5, 0.0, (math.log1p(1e9) - 1) / 2], atol=1e-6)


def test_a_missing_number_is_another_one_and_may_be_indicated(tmp_path: Path) -> None:
    folder = number(tmp_path / "p", missing=4, std=2.0, indicator="absent")
    made = fed(folder, [1.0, None, 4.0])
    assert made.vectors_ND.tolist() == [[0.5, 0], [2, 1], [2, 0]]


def test_numbers_that_are_none_are_rejected_one_by_one(tmp_path: Path) -> None:
    values = [math.nan, math.inf, -math.inf, 1e39, None, 1.5]
    makes = "makes no finite float32 for input 'it'"
    assert said(fed(number(tmp_path / "p"), values)) == {
        0: f"value-invalid: column 'x': nan {makes}",
        1: f"value-invalid: column 'x': inf {makes}",
        2: f"value-invalid: column 'x': -inf {makes}",
        3: f"value-invalid: column 'x': 1e+39 {makes}",
        4: "value-missing: column 'x' has no value",
    }


def test_nan_may_be_declared_missing(tmp_path: Path) -> None:
    folder = number(tmp_path / "p", missing=0, not_finite="missing", indicator="absent")
    assert fed(folder, [math.nan, math.inf, 2.0]).vectors_ND.tolist() == [[0, 1], [0, 1], [2, 0]]


def test_integers_that_no_float_tells_apart_are_rejected(tmp_path: Path) -> None:
    folder = number(tmp_path / "p", missing=0)
    made = fed(folder, [2**53, 2**53 + 1, -(2**53) - 1, None], pa.int64())
    assert set(said(made)) == {1, 2}
    assert "9007199254740993 makes no finite float32" in said(made)[1]
    assert set(said(fed(folder, [2**64 - 1, 1], pa.uint64()))) == {0}


def test_decimals_are_numbers(tmp_path: Path) -> None:
    made = fed(number(tmp_path / "p"), [Decimal("12.50"), Decimal("-0.25")], pa.decimal128(5, 2))
    assert made.vectors_ND.tolist() == [[12.5], [-0.25]]


@pytest.mark.parametrize(
    ("kind", "refused"), [(INT64, {1, 3}), (INT32, {1, 3, 4}), (TensorProto.UINT8, {1, 2, 3, 4, 5})]
)
def test_a_model_of_integers_takes_whole_numbers_that_it_can_hold(
    tmp_path: Path, kind: int, refused: set[int]
) -> None:
    made = fed(number(tmp_path / "p", kind=kind), [7.0, 0.5, -1.0, math.nan, 2.0**31, 256.0])
    assert set(made.rejected) == refused
    assert made.vectors_ND[0].tolist() == [7]


@pytest.mark.parametrize("kind", [BOOL, FLOAT, INT64])
def test_booleans_are_ones_and_zeros(tmp_path: Path, kind: int) -> None:
    item = {"it": {"boolean": {"field": "x", "missing": True}}}
    folder = numbers_package(tmp_path / "p", item, kind)
    assert fed(folder, [True, False, None]).vectors_ND.tolist() == [[1], [0], [1]]
    assert fed(folder, [1, 0, None], pa.int8()).vectors_ND.tolist() == [[1], [0], [1]]
    assert said(fed(folder, [2, 1])) == {0: "value-invalid: column 'x': 2 is neither 0 nor 1"}


@pytest.mark.parametrize(
    ("shape", "message"), [((2,), r"numbers are \[N\], and the model's input is it: float\d+\[rows, 2\]")]
)
def test_a_value_has_one_place_in_the_model(tmp_path: Path, shape: tuple[int], message: str) -> None:
    item = {"it": {"number": {"field": "x"}}}
    with pytest.raises(ModelError, match=message):
        loaded(mirror_package(tmp_path / "p", item, ("it", FLOAT, shape), dimension=2))


def test_an_input_beside_another_must_be_there_and_be_fed_once(tmp_path: Path) -> None:
    item = {"it": {"number": {"field": "x", "missing": 0, "indicator": "absent"}}}
    with pytest.raises(ModelError, match="the model has no input absent"):
        loaded(mirror_package(tmp_path / "p", item, ("it", FLOAT, ()), dimension=1))
    both = {**item, "absent": {"number": {"field": "y"}}}
    with pytest.raises(ModelError, match="two inputs feed absent"):
        loaded(mirror_package(tmp_path / "q", both, ("it", FLOAT, ()), ("absent", FLOAT, ()), dimension=2))
