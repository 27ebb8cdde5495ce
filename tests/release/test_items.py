"""Rows of item files are found anywhere, whatever the files are cut into."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedmill.release.items import ItemTable

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
