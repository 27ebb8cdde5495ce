"""A model that reads every kind of input at once gets what it declares, whatever the batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tests.every_input import SCHEMA, every_input_package, every_item, expected

from embedmill import embed
from embedmill.model import Encoder, ModelPackage


@pytest.fixture
def package(tmp_path: Path) -> ModelPackage:
    return ModelPackage.open(every_input_package(tmp_path / "package"))


def rows_of(count: int) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(every_item(count), SCHEMA)


@pytest.mark.parametrize("batch_images", [1, 7, 64])
def test_every_input_is_fed_as_it_is_declared(package: ModelPackage, batch_images: int) -> None:
    with Encoder.load(package, batch_images=batch_images) as encoder:
        encoded = encoder.encode(rows_of(40))
    assert not encoded.rejected
    np.testing.assert_allclose(encoded.vectors_ND, expected(every_item(40)), rtol=1e-4, atol=1e-4)


def test_embed_does_the_same_in_one_call(package: ModelPackage) -> None:
    made = embed(pa.Table.from_batches([rows_of(10)]), package).column("vector")
    vectors = np.array(made.to_pylist(), np.float32)
    np.testing.assert_allclose(vectors, expected(every_item(10)), rtol=1e-4, atol=1e-4)


def test_a_query_may_be_a_raw_string(package: ModelPackage) -> None:
    made = Encoder.load(package, "query_text").encode_texts(["red lamp", "chair"])
    np.testing.assert_allclose(made[0] * 2, made[1], rtol=1e-6)
