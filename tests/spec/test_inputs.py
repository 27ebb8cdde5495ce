"""Inputs of model.yaml: what cannot be meant is refused, and digests know only what changes vectors."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from embedmill.spec import EncoderInputs, InputSpec

SIZE = {"height": 4, "width": 4}
WORDS = {"field": "x", "vocabulary": "v.txt"}


def defining(kind: str, **declared: Any) -> dict[str, Any]:
    return InputSpec.model_validate({kind: declared}).kind.defining()


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({}, "exactly one of text, image, category, categories, number, boolean, string, bytes"),
        ({"number": {"field": "x"}, "boolean": {"field": "x"}}, "exactly one of"),
        ({"category": {**WORDS, "unknown": "drop"}}, "found 'drop'; write reject or an index"),
        ({"category": {**WORDS, "unknown": -1}}, "found -1; write reject or an index"),
        ({"category": {**WORDS, "missing": True}}, "found True; write reject, unknown or an index"),
        ({"category": {**WORDS, "missing": "unknown"}}, "`missing: unknown` needs an index in `unknown`"),
        ({"categories": WORDS}, "`encoding: padded` needs a `length`"),
        ({"categories": {**WORDS, "encoding": "multi_hot", "mask": "m"}}, "belong to `encoding: padded`"),
        ({"categories": {**WORDS, "length": 2, "separator": ""}}, "at least 1 character"),
        ({"number": {"field": "x", "std": 0}}, "`std` may not be zero"),
        ({"number": {"field": "x", "mean": float("inf")}}, "finite number"),
        ({"number": {"field": "x", "missing": float("nan")}}, "found nan; write reject or a finite number"),
        ({"number": {"field": "x", "missing": "0"}}, "found '0'; write reject or a finite number"),
        ({"number": {"field": "x", "missing": -1, "transform": "log1p"}}, "log1p takes numbers above -1"),
        ({"number": {"field": "x", "indicator": "i"}}, "an `indicator` needs a number in `missing`"),
        ({"boolean": {"field": "x", "missing": 0}}, "found 0; write reject, true or false"),
        ({"string": {"template": "no field"}}, "names no field"),
        ({"string": {"template": "{x:>3}"}}, "without formats"),
        ({"image": {"field": ["a", "a"], "resize": SIZE}}, "`field` names a column twice"),
        ({"image": {"field": [], "resize": SIZE}}, "at least 1 item"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_to_write(declared: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        InputSpec.model_validate(declared)
    assert message in str(caught.value)


def test_keys_that_came_later_are_in_no_digest_where_they_are_as_by_default() -> None:
    before = defining("image", field="x", resize=SIZE)
    assert not {"mask", "missing"} & set(before)
    assert defining("image", field="x", resize=SIZE, missing="reject")["missing"] == "reject"


def test_hints_are_in_no_digest() -> None:
    plain = defining("string", template="{x}")
    assert defining("string", template="{x}", length_hint="words", max_length=9) == plain
    assert defining("string", template="{x}", missing="reject") != plain


@pytest.mark.parametrize(
    ("inputs", "field"),
    [
        ({"a": {"string": {"template": "{query}"}}}, "query"),
        (
            {"a": {"string": {"template": "{q}"}}, "b": {"text": {"template": "x: {q}", "max_length": 9}}},
            "q",
        ),
        ({"a": {"string": {"template": "{q} {p}"}}}, None),
        ({"a": {"category": {**WORDS}}}, None),
        ({"a": {"string": {"template": "{x}"}}, "b": {"number": {"field": "x"}}}, None),
    ],
)
def test_an_encoder_of_one_text_is_told_from_others(inputs: dict[str, Any], field: str | None) -> None:
    assert EncoderInputs.model_validate(inputs).text_field == field


def test_columns_of_files_are_those_of_all_images_and_bytes() -> None:
    inputs = EncoderInputs.model_validate(
        {
            "a": {"image": {"field": ["front", "back"], "resize": SIZE}},
            "b": {"bytes": {"field": "front"}},
            "c": {"bytes": {"field": "sound"}},
            "d": {"number": {"field": "price"}},
        }
    )
    assert inputs.image_fields == ("front", "back", "sound")
    assert inputs.fields == ("front", "back", "sound", "price")
