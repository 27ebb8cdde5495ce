"""Rows of a table by their numbers, and how many bytes they take."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from embedmill.planning.gather import GatheredBytes, gather, put_together, where_they_lie


def table_of(count: int, seed: int, nulls: float) -> pa.Table:
    chance = random.Random(seed)

    def some(value: Any) -> Any:
        return None if chance.random() < nulls else value

    return pa.table(
        {
            "text": pa.array([some("é" * chance.randint(0, 50)) for _ in range(count)], pa.string()),
            "image": pa.array([some(chance.randbytes(9)) for _ in range(count)], pa.binary()),
            "large": pa.array([some("x" * chance.randint(0, 9)) for _ in range(count)], pa.large_string()),
            "tags": pa.array(
                [some(["a"] * chance.randint(0, 3)) for _ in range(count)], pa.list_(pa.string())
            ),
            "price": pa.array([some(1.0) for _ in range(count)], pa.float64()),
        }
    )


def in_pieces(table: pa.Table) -> pa.Table:
    """As a column of more than 2 GiB has to be; each column in pieces of its own."""
    columns = [
        pa.chunked_array([*column.slice(0, 7 + n).chunks, *column.slice(7 + n).chunks])
        for n, column in enumerate(table.columns)
    ]
    return pa.table(columns, names=table.column_names)


@pytest.mark.parametrize("nulls", [0.0, 0.3])
def test_rows_of_a_table_in_pieces_are_those_of_one_in_one_piece(nulls: float) -> None:
    table = table_of(100, seed=1, nulls=nulls)
    rows = np.random.default_rng(1).permutation(100)[:60]
    found = gather(in_pieces(table), rows)
    assert found.equals(table.take(pa.array(rows)))
    assert all(column.num_chunks == 1 for column in found.columns)


@pytest.mark.parametrize("nulls", [0.0, 0.3])
def test_rows_are_found_where_they_lie(nulls: float) -> None:
    table = table_of(100, seed=3, nulls=nulls)
    rows = np.random.default_rng(3).permutation(100)[:60]
    for each in (table, in_pieces(table)):
        before = pa.total_allocated_bytes()
        lying = where_they_lie(each, rows)
        assert pa.total_allocated_bytes() == before
        assert pa.Table.from_batches(lying).combine_chunks().equals(table.take(pa.array(rows)))


@pytest.mark.parametrize("rows", [[4], range(20)])
def test_what_lies_under_nulls_is_not_copied(rows: Sequence[int]) -> None:
    """Parquet's reader leaves other rows' values there."""

    def written(under: int) -> bytes:
        valid = pa.array([number % 3 != 0 for number in range(40)]).buffers()[1]
        numbers = pa.array([under if number % 3 == 0 else number for number in range(40)], pa.int64())
        texts = pa.array(["xyz" if number % 3 else f"{under:03d}" for number in range(40)])
        columns = {
            "number": pa.Array.from_buffers(pa.int64(), 40, [valid, numbers.buffers()[1]]),
            "text": pa.Array.from_buffers(pa.string(), 40, [valid, *texts.buffers()[1:]]),
        }
        columns["pair"] = pa.StructArray.from_arrays(list(columns.values()), list(columns))
        lying = where_they_lie(pa.table(columns), np.asarray(rows, dtype=np.int64))
        whole = put_together(pa.Table.from_batches(lying))
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, whole.schema) as writer:
            writer.write_table(whole)
        content: bytes = sink.getvalue().to_pybytes()
        return content

    assert written(7) == written(999)


@pytest.mark.parametrize("nulls", [0.0, 0.3])
def test_bytes_are_told_as_arrow_counts_them(nulls: float) -> None:
    table = table_of(100, seed=2, nulls=nulls)
    rows = np.random.default_rng(2).permutation(100)[:60]
    size, gathered = GatheredBytes(table, rows), gather(table, rows)
    for start, end in [(0, 60), (0, 13), (13, 59), (59, 60)]:
        assert size.of(start, end) == gathered.slice(start, end - start).nbytes
    assert GatheredBytes(in_pieces(table), rows).of(0, 60) == gathered.nbytes
