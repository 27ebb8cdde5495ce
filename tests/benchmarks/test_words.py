from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from benchmarks.support.words import BLOCK, TEMPLATE, Words

from embedmill.model import Encoder, ModelPackage

ITEMS = BLOCK + 1000


@pytest.fixture(scope="module")
def words() -> Words:
    return Words(dimension=32)


@pytest.fixture(scope="module")
def days(words: Words) -> list[pa.Table]:
    return [pa.concat_tables(words.blocks(ITEMS, day=day)) for day in (0, 1)]


def texts(table: pa.Table) -> list[str]:
    return [TEMPLATE.format(**row) for row in table.select(["title", "category"]).to_pylist()]


def test_a_catalog_has_each_id_once_and_five_to_fourteen_words_a_title(days: list[pa.Table]) -> None:
    assert len(days[0]) == ITEMS
    assert len(set(days[0].column("sku").to_pylist())) == ITEMS
    assert {len(title.split()) for title in days[0].column("title").to_pylist()} == set(range(5, 15))


def test_the_next_day_one_item_in_a_hundred_has_another_text(days: list[pa.Table]) -> None:
    changed = sum(a != b for a, b in zip(*map(texts, days), strict=True))
    assert changed == ITEMS // 100


def test_the_number_of_new_texts_is_that_of_a_comparison(words: Words, days: list[pa.Table]) -> None:
    before, after = map(texts, days)
    assert words.changed_texts(ITEMS) == len(set(after) - set(before)) == ITEMS // 200


def test_the_model_makes_the_vectors_that_the_generator_names(words: Words, tmp_path: Path) -> None:
    words.write_package(tmp_path / "model")
    words.write_catalog(tmp_path / "items.parquet", 50)
    rows = pq.read_table(tmp_path / "items.parquet").combine_chunks().to_batches()[0]
    made = Encoder.load(ModelPackage.open(tmp_path / "model")).encode(rows).vectors_ND
    np.testing.assert_allclose(made, words.vectors(words.tokens(0, 50)), atol=1e-5)


def test_vectors_of_one_topic_are_nearer_to_each_other_than_to_others(words: Words) -> None:
    tokens = words.tokens(0, 4000)
    vectors = words.vectors(tokens)
    scores = vectors @ vectors.T
    equal = (tokens[:, None] == tokens[None]).all(axis=2)
    scores[equal] = -1.0
    assert np.median(scores.max(axis=1)) > 0.5 > 0.2 > np.median(scores)
