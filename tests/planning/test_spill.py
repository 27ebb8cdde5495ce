"""Spilled rows come back whole, in their bucket, in the order in which they came."""

from __future__ import annotations

import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.mill import Mill

from embedmill.digest import digest_bytes, digests_from_arrow, digests_from_bytes, digests_to_arrow
from embedmill.planning.spill import BUCKETS, LARGE_ROW_BYTES, Spill
from embedmill.types import Digests, Progress

SCHEMA = pa.schema([("key", pa.binary(16)), ("row", pa.int64()), ("text", pa.string())])
keys = st.lists(
    st.binary(min_size=16, max_size=16) | st.sampled_from([b"\0" * 16, b"\xff" * 16]), max_size=40
)


def rows_of(found: list[bytes], start: int) -> tuple[pa.RecordBatch, Digests]:
    digests = digests_from_bytes(b"".join(found))
    numbers = range(start, start + len(found))
    columns = [
        digests_to_arrow(digests),
        pa.array(numbers, pa.int64()),
        pa.array([f"row {n}" for n in numbers]),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA), digests


@given(batches=st.lists(keys, max_size=5), held_bytes=st.sampled_from([0, 200, 1 << 20]))
def test_reading_all_buckets_in_order_gives_all_rows_by_ranges_of_keys(
    batches: list[list[bytes]], held_bytes: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        spill, count = Spill(Path(folder) / "spill", SCHEMA, ThreadPoolExecutor(1), held_bytes=held_bytes), 0
        for found in batches:
            spill.add(*rows_of(found, count))
            count += len(found)
        flat = [key for found in batches for key in found]
        read = [row for bucket in range(BUCKETS) for row in spill.read(bucket).to_pylist()]
        wanted = sorted(range(count), key=lambda row: (flat[row][0] >> 2, row))
        assert [row["row"] for row in read] == wanted
        assert [row["key"] for row in read] == [flat[row] for row in wanted]
        assert [row["text"] for row in read] == [f"row {row}" for row in wanted]
        assert spill.filled() == sorted({key[0] >> 2 for key in flat})
        assert sum(spill.rows) == count


@pytest.mark.parametrize("held_bytes", [0, 1 << 20])
def test_a_bucket_can_be_read_again_until_it_is_dropped(tmp_path: Path, held_bytes: int) -> None:
    spill = Spill(tmp_path / "spill", SCHEMA, ThreadPoolExecutor(1), held_bytes=held_bytes)
    spill.add(*rows_of([bytes([9] * 16), bytes([8] * 16)], 0))
    assert spill.read(2).equals(spill.read(2))
    assert len(spill.read(2)) == 2
    spill.drop(2)
    assert len(spill.read(2)) == 0
    assert not list((tmp_path / "spill").iterdir())


def test_few_rows_need_no_files_and_many_are_not_held(tmp_path: Path) -> None:
    spill = Spill(tmp_path / "spill", SCHEMA, ThreadPoolExecutor(1), held_bytes=10_000)
    chance = np.random.default_rng(0)
    spill.add(*rows_of([chance.bytes(16)], 0))
    assert not list((tmp_path / "spill").iterdir())
    for start in range(0, 2000, 100):
        spill.add(*rows_of([chance.bytes(16) for _ in range(100)], start))
    written = sum(file.stat().st_size for file in (tmp_path / "spill").iterdir())
    assert written > sum(spill.size_bytes) - 10_000


def test_large_rows_are_written_in_order_as_small_ones_are(tmp_path: Path) -> None:
    spill = Spill(tmp_path / "spill", SCHEMA, ThreadPoolExecutor(1), held_bytes=0)
    chance = np.random.default_rng(0)
    found = [chance.bytes(16) for _ in range(200)]
    texts = [f"{row} ".ljust(LARGE_ROW_BYTES, "x") for row in range(len(found))]
    for start in range(0, len(found), 50):
        batch, digests = rows_of(found[start : start + 50], start)
        spill.add(batch.set_column(2, "text", pa.array(texts[start : start + 50])), digests)
    read = [row for bucket in range(BUCKETS) for row in spill.read(bucket).to_pylist()]
    wanted = sorted(range(len(found)), key=lambda row: (found[row][0] >> 2, row))
    assert [(row["key"], row["row"], row["text"]) for row in read] == [
        (found[row], row, texts[row]) for row in wanted
    ]
    assert sum(spill.size_bytes) > LARGE_ROW_BYTES * len(found)


WORDS = pa.dictionary(pa.int8(), pa.string())


@pytest.mark.parametrize("held_bytes", [0, 1 << 20])
@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (pa.list_(WORDS), ["a", "b"]),
        (pa.struct([("of", pa.list_(WORDS))]), {"of": ["c"]}),
        (pa.list_(pa.struct([("of", pa.string())])), [{"of": "d"}, None]),
        (pa.null(), None),
    ],
    ids=str,
)
def test_values_of_any_type_come_back(
    tmp_path: Path, kind: pa.DataType, value: object, held_bytes: int
) -> None:
    schema = pa.schema([("row", pa.int64()), ("value", kind)])
    spill = Spill(tmp_path / "spill", schema, ThreadPoolExecutor(1), held_bytes=held_bytes)
    for start in (0, 3):
        rows = pa.record_batch({"row": range(start, start + 3), "value": pa.array([value] * 3, kind)}, schema)
        spill.add(rows, digests_from_bytes(bytes(48)))
    assert spill.read(0).to_pylist() == [{"row": row, "value": value} for row in range(6)]


def test_an_empty_bucket_has_the_schema(tmp_path: Path) -> None:
    assert Spill(tmp_path / "spill", SCHEMA, ThreadPoolExecutor(1)).read(0).schema == SCHEMA


def test_digests_keep_their_trailing_zeros_on_the_way(tmp_path: Path) -> None:
    spill = Spill(tmp_path / "spill", SCHEMA, ThreadPoolExecutor(1), held_bytes=0)
    key = b"\x04" + b"\0" * 15
    spill.add(*rows_of([key], 0))
    column = spill.read(1).column("key").combine_chunks()
    assert digest_bytes(digests_from_arrow(column)) == key


def test_a_plan_that_is_interrupted_waits_for_what_is_being_written(mill: Mill) -> None:
    mill.write(
        [{"sku": f"s{n}", "title": "long " * 100_000, "category": "", "price": 1.0} for n in range(40)]
    )

    def interrupt(progress: Progress) -> None:
        if progress.done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mill.open().plan(interrupt)
    assert [each.name for each in threading.enumerate() if each.name.startswith("spill")] == []
