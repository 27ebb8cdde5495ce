"""Rows that were made tensors, and rows again, make the same vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.every_input import SCHEMA, every_input_package, every_item
from tests.models import tiny_text_package

from embedmill.errors import ModelError
from embedmill.model import Encoder, ModelPackage, canonical_columns
from embedmill.model.raw_tensors import field_tensors, rows_of_tensors, tensors_of
from embedmill.spec import EncoderInputs


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> EncoderInputs:
    package = every_input_package(tmp_path_factory.mktemp("every") / "model")
    return ModelPackage.open(package).inputs("item")


def there_and_back(inputs: EncoderInputs, rows: pa.RecordBatch) -> dict[int, Any]:
    """What the encoder sees of each row after the way through tensors, by row."""
    seen: dict[int, Any] = {}
    for places, tensors in tensors_of(inputs, rows):
        columns, _ = canonical_columns(inputs, rows_of_tensors(inputs, tensors))
        for at, place in enumerate(places.tolist()):
            seen[place] = [column.values[at] for column in columns]
    return seen


def test_a_row_is_seen_the_same_whatever_it_lacks(every: EncoderInputs) -> None:
    rows = pa.RecordBatch.from_pylist(every_item(70), SCHEMA)
    columns, _ = canonical_columns(every, rows)
    seen = there_and_back(every, rows)
    assert len(seen) == 70
    assert seen == {row: [column.values[row] for column in columns] for row in range(70)}


TEXT = st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"])))
ROWS = st.fixed_dictionaries(
    {
        "title": TEXT,
        "category": TEXT,
        "tags": st.one_of(st.none(), st.lists(TEXT, max_size=4)),
        "materials": TEXT,
        "price": st.one_of(st.none(), st.floats()),
        "stock": st.one_of(st.none(), st.booleans()),
        "front": st.one_of(st.none(), st.binary(max_size=8)),
        "back": st.one_of(st.none(), st.binary(max_size=8)),
    }
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(ROWS, min_size=1, max_size=5))
def test_any_values_are_seen_the_same(every: EncoderInputs, values: list[dict[str, Any]]) -> None:
    rows = pa.RecordBatch.from_pylist(values, pa.schema([field for field in SCHEMA if field.name != "sku"]))
    columns, _ = canonical_columns(every, rows)
    assert there_and_back(every, rows) == {
        row: [column.values[row] for column in columns] for row in range(len(values))
    }


def test_columns_of_other_types_are_read_as_templates_read_them(tmp_path: Path) -> None:
    package = ModelPackage.open(tiny_text_package(tmp_path / "tiny", template="{title} {price}"))
    inputs = package.inputs("item")
    rows = pa.record_batch({"title": pa.array([1, None]).dictionary_encode(), "price": pa.array([0.5, 2.0])})
    ((places, tensors),) = tensors_of(inputs, rows)
    assert places.tolist() == [0, 1]
    assert {name: tensor.tolist() for name, tensor in tensors.items()} == {
        "title": [b"1", b""],
        "price": [b"0.5", b"2.0"],
    }
    with Encoder.load(package) as encoder:
        np.testing.assert_array_equal(
            encoder.encode(rows).vectors_ND, encoder.encode(rows_of_tensors(inputs, tensors)).vectors_ND
        )


def test_every_field_has_a_tensor_of_its_type(every: EncoderInputs) -> None:
    dtypes = {name: spec.dtype for name, spec in field_tensors(every).items()}
    assert dtypes == {
        "front": "string",
        "back": "string",
        "category": "string",
        "tags": "string",
        "materials": "string",
        "price": "float64",
        "stock": "bool",
        "title": "string",
    }


@pytest.mark.parametrize("text", [b"red", b'{"a": 1}', b'["a", 1]', b"[" * 100_000])
def test_a_list_that_is_none_is_refused(every: EncoderInputs, text: bytes) -> None:
    tensors = {"tags": np.array([text], dtype=object)}
    with pytest.raises(ModelError, match="tags: not a list of texts in JSON"):
        rows_of_tensors(every, tensors)
