"""Rows of item files are found anywhere, whatever the files are cut into."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.support.mill import Mill, items

from embedmill.errors import ReleaseIncompatible
from embedmill.release.items import FINGERPRINT, ID, STATE, ItemTable, read_part, states, write_items

ROWS = [50, 0, 1, 33]
NAMES = ["price", "id", "title"]


@pytest.fixture
def parts() -> list[pa.Table]:
    """One table for each file."""
    whole = pa.table(
        {
            "id": [f"s{number}" for number in range(sum(ROWS))],
            "title": [None if number % 3 == 0 else f"Grüße {number}" for number in range(sum(ROWS))],
            "price": [float(number) for number in range(sum(ROWS))],
            "tags": [["a"] * (number % 4) for number in range(sum(ROWS))],
        }
    )
    return [whole.slice(sum(ROWS[:number]), rows) for number, rows in enumerate(ROWS)]


@pytest.mark.parametrize("group_rows", [1, 7, 100])
def test_cells_of_any_rows_are_those_of_the_table(
    parts: list[pa.Table], tmp_path: Path, group_rows: int
) -> None:
    files = [tmp_path / f"{number}.parquet" for number in range(len(parts))]
    for file, part in zip(files, parts, strict=True):
        pq.write_table(part, file, row_group_size=group_rows)
    table, whole = ItemTable(files, ROWS), pa.concat_tables(parts)
    places = random.Random(0).choices(range(sum(ROWS)), k=200)
    for names in (NAMES, [*NAMES, "tags"]):
        found = table.columns(places, names)
        assert found == [whole.column(name).take(pa.array(places)).to_pylist() for name in names]
    assert table.whole().equals(whole)


def test_only_files_are_read_that_have_a_row_that_is_wanted(parts: list[pa.Table], tmp_path: Path) -> None:
    pq.write_table(parts[0], tmp_path / "first.parquet")
    table = ItemTable([tmp_path / "first.parquet", tmp_path / "not written.parquet"], ROWS[:2])
    assert table.columns([49, 0], ["id"]) == [["s49", "s0"]]
    assert table.columns([], NAMES) == [[], [], []]


@pytest.mark.parametrize("rows", [0, 1, 5_000])
def test_item_files_have_dictionaries_of_what_repeats_and_every_value(tmp_path: Path, rows: int) -> None:
    numbers = range(rows)
    table = pa.table(
        {
            ID: [f"s{number}" for number in numbers],
            FINGERPRINT: pa.array([number.to_bytes(16, "big") for number in numbers], pa.binary(16)),
            STATE: states(np.zeros(rows, dtype=np.bool_)),
            "title": [f"Grüße {number}" for number in numbers],
            "category": [f"category{number % 50}" for number in numbers],
            "seldom": [number // 400 if number % 2 else None for number in numbers],
            "price": [number / 3 for number in numbers],
            "tags": [["a", "b"] for _ in numbers],
        }
    )
    write_items(tmp_path / "items.parquet", table)
    assert pa.Table.from_batches([read_part(tmp_path / "items.parquet")]).equals(table)
    if rows == 5_000:
        group = pq.ParquetFile(tmp_path / "items.parquet").metadata.row_group(0)
        columns = [group.column(number) for number in range(group.num_columns)]
        repeating = {column.path_in_schema for column in columns if column.has_dictionary_page}
        assert repeating == {STATE, "category", "seldom"}


def test_a_column_that_is_not_there_is_named_with_those_that_are(mill: Mill) -> None:
    mill.run(items(3))
    with pytest.raises(ReleaseIncompatible) as caught:
        list(mill.live().items(["id", "titel"]))
    assert "'titel'" in caught.value.message
    hint = "did you mean 'title'? it has: id, _fingerprint, _state, title, price"
    assert caught.value.hint.startswith(hint)
    (batch,) = mill.live().items(["id", "title"])
    assert batch.schema.names == ["id", "title"]
