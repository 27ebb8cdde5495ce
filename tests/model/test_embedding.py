"""`embed`: a table comes back with a column of vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pytest
from tests.decoding.pictures import encoded, noise
from tests.models import tiny_image_package, tiny_text_package

from embedmill.errors import CatalogError, ModelError
from embedmill.model import Encoder, ModelPackage, embed
from embedmill.model.embedding import CHUNK_ROWS

TABLE = pa.table({"title": ["Shoe", None, "Hat"], "category": ["red", " ", None], "price": [1, 2, 3]})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_text_package(tmp_path / "package", dimension=4)


def test_the_vectors_are_appended_and_null_where_there_is_nothing_to_embed(folder: Path) -> None:
    found = embed(TABLE, folder)
    assert found.drop_columns(["vector"]).equals(TABLE)
    assert found.schema.field("vector").type == pa.list_(pa.float32(), 4)
    package = ModelPackage.open(folder)
    rows = TABLE.take([0, 2]).combine_chunks().to_batches()[0]
    expected = Encoder.load(package).encode(rows).vectors_ND
    assert found["vector"].is_null().to_pylist() == [False, True, False]
    vectors = np.array(found["vector"].drop_null().to_pylist(), np.float32)
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
    assert found.schema.field("vector").metadata == {b"encoder_digest": package.encoder_digest().encode()}


def test_images_leave_no_process_behind_and_texts_start_none(tmp_path: Path, folder: Path) -> None:
    others = set(psutil.Process().children())  # servers of other tests
    image = encoded(noise(20, 20))
    with Encoder.load(ModelPackage.open(folder)) as encoder:
        encoder.encode(TABLE.combine_chunks().to_batches()[0])
        assert set(psutil.Process().children()) <= others
    found = embed(pa.table({"image": [image, b"no image"]}), tiny_image_package(tmp_path / "images"))
    assert found["vector"].is_null().to_pylist() == [False, True]
    assert set(psutil.Process().children()) <= others


class Stream:
    """An object of another library that speaks Arrow."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> Any:
        return TABLE.__arrow_c_stream__(requested_schema)


def test_anything_that_speaks_arrow_will_do(folder: Path) -> None:
    expected = embed(TABLE, folder)
    batch = TABLE.combine_chunks().to_batches()[0]
    for table in (Stream(), batch, TABLE.to_reader()):
        assert embed(table, folder).equals(expected)
    assert embed(TABLE, str(folder)).equals(expected)
    assert embed(TABLE, ModelPackage.open(folder)).equals(expected)


@pytest.mark.parametrize(
    "kind", [pa.string_view(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())], ids=str
)
def test_texts_may_be_encoded_as_polars_and_others_do(folder: Path, kind: pa.DataType) -> None:
    other = TABLE.set_column(0, "title", TABLE["title"].cast(kind))
    found = embed(other, folder)
    assert found["vector"].equals(embed(TABLE, folder)["vector"])
    assert found.schema.field("title").type == kind


def test_another_encoder_and_column_name_may_be_chosen(folder: Path) -> None:
    found = embed(pa.table({"query": ["red"]}), folder, encoder="query_text", column="of_query")
    assert found.column_names == ["query", "of_query"]
    assert found["of_query"].null_count == 0


def test_tables_of_many_chunks_and_rows_keep_their_order(folder: Path) -> None:
    count = CHUNK_ROWS + 3
    table = pa.table({"title": [str(at) for at in range(count)], "category": ["x"] * count})
    whole = embed(pa.concat_tables([table.slice(0, 7), table.slice(7)]), folder)
    last = embed(table.slice(count - 2), folder)
    assert len(whole) == count
    np.testing.assert_allclose(whole["vector"].to_pylist()[-2:], last["vector"].to_pylist(), atol=1e-6)


def test_a_table_without_rows_gets_an_empty_column(folder: Path) -> None:
    found = embed(TABLE.slice(0, 0), folder)
    assert len(found["vector"]) == 0
    assert found.schema.field("vector").type == pa.list_(pa.float32(), 4)


def test_images_that_cannot_be_read_have_no_vector(tmp_path: Path) -> None:
    found = embed({"image": [b"junk", None]}, tiny_image_package(tmp_path / "package"))
    assert found["vector"].null_count == 2


def test_a_column_of_that_name_is_left_alone(folder: Path) -> None:
    with pytest.raises(CatalogError, match="already has a column 'price'"):
        embed(TABLE, folder, column="price")


def test_a_missing_column_is_named_with_all_that_there_are(folder: Path) -> None:
    with pytest.raises(CatalogError, match=r"reads column 'category'.*there are: title, price"):
        embed(TABLE.drop_columns(["category"]), folder)


def test_a_folder_that_is_no_package_is_a_model_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model package"):
        embed(TABLE, tmp_path)
