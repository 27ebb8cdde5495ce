"""Parts of items are of bounded size, and together the same whatever that size is."""

from __future__ import annotations

import statistics
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedmill.catalog import id_digests
from embedmill.digest import digests_to_arrow
from embedmill.planning.join import Join, join_ids
from embedmill.planning.spill import BUCKETS, Spill
from embedmill.release.items import FINGERPRINT, ID, STATE, states
from embedmill.release.quarantine import QuarantineWriter

ROWS = 5000
NO_WHY = [pa.nulls(ROWS, pa.string())] * 3


class WatchedSpill(Spill):
    """Notes how much of Arrow's memory is in use whenever a bucket is read."""

    def __init__(self, folder: Path, schema: pa.Schema, writers: ThreadPoolExecutor, held_bytes: int) -> None:
        super().__init__(folder, schema, writers, held_bytes=held_bytes)
        self.allocated: list[int] = []

    def read(self, bucket: int) -> pa.Table:
        self.allocated.append(pa.total_allocated_bytes())
        return super().read(bucket)


def catalog(folder: Path, ids: pa.Array) -> WatchedSpill:
    """Rows whose fingerprints are those of their ids; each tenth is empty."""
    digests = id_digests(ids)
    columns = [digests_to_arrow(digests), pa.array(range(ROWS)), digests_to_arrow(digests)]
    names = [
        "_id_digest",
        "_row",
        "_fingerprint",
        "_empty",
        "_reason",
        "_detail",
        "_decoders",
        "id",
        "d:shown",
    ]
    shown = pa.array([f"shown {row}" for row in range(ROWS)])
    empty = pa.array(np.arange(ROWS) % 10 == 0)
    batch = pa.RecordBatch.from_arrays([*columns, empty, *NO_WHY, ids, shown], names=names)
    spill = WatchedSpill(folder / "by-id", batch.schema, ThreadPoolExecutor(1), held_bytes=100_000)
    for start in range(0, ROWS, 700):
        spill.add(batch.slice(start, 700), digests[start : start + 700])
    return spill


def base() -> list[pa.RecordBatch]:
    """Ids of which one in two is in the catalog, the first hundred with other fingerprints."""
    ids = pa.array([f"id-{number}" for number in range(2000, 6000, 2)])
    prints = id_digests(ids).copy()
    order = np.argsort(prints)
    prints[:100] = prints[100]
    rows = {ID: ids, FINGERPRINT: digests_to_arrow(prints), STATE: states(np.zeros(len(ids), np.bool_))}
    return [pa.record_batch(rows).take(pa.array(order))]


def joined(folder: Path, part_rows: int, *, counts: bool = True) -> tuple[Join, pa.Table]:
    """The join of a catalog in which two rows have one id, and its quarantine."""
    folder.mkdir()
    ids = pa.array([f"id-{number}" for number in [*range(ROWS - 1), 7]])
    with QuarantineWriter(folder / "quarantine.parquet") as quarantine:
        rows = catalog(folder, ids)
        join = join_ids(folder, ROWS, rows, base(), quarantine, counts=counts, part_rows=part_rows)
    return join, pq.read_table(folder / "quarantine.parquet")


@pytest.mark.parametrize("part_rows", [20, 60, 500])
def test_parts_are_bounded_and_the_join_is_the_same(tmp_path: Path, part_rows: int) -> None:
    (whole, rejected), (cut, rejected_too) = joined(tmp_path / "a", ROWS), joined(tmp_path / "b", part_rows)
    assert len(whole.parts) == 1
    assert max(rows for _, rows in cut.parts) <= 2 * part_rows  # ranges of digests are not quite even
    assert pa.concat_tables(pq.read_table(file) for file, _ in cut.parts).equals(
        pq.read_table(whole.parts[0][0])
    )
    assert rejected.equals(rejected_too)
    counts = [
        (join.new, join.changed, join.unchanged, join.deleted, join.empty, int(join.dropped.sum()))
        for join in (whole, cut)
    ]
    assert counts[0] == counts[1] == (3498, 100, 1400, 500, 500, 2)
    assert whole.kept_prints is not None
    assert cut.kept_prints is not None
    assert whole.kept_prints.rows == cut.kept_prints.rows
    assert sum(whole.kept_prints.rows) == 4498
    assert len(whole.kept_prints.rows) == BUCKETS


def test_a_join_that_need_not_count_keeps_no_fingerprints_and_finds_the_same(tmp_path: Path) -> None:
    (counted, rejected), (plain, rejected_too) = (
        joined(tmp_path / "a", 60),
        joined(tmp_path / "b", 60, counts=False),
    )
    assert plain.kept_prints is None
    assert not (tmp_path / "b" / "prints").exists()
    assert rejected.equals(rejected_too)
    assert [file.read_bytes() for file, _ in plain.parts] == [file.read_bytes() for file, _ in counted.parts]


def test_a_large_bucket_is_done_with_before_the_next_is_read(tmp_path: Path) -> None:
    ids = pa.array([f"id-{number}".ljust(4_000) for number in range(ROWS)])
    spill = catalog(tmp_path, ids)
    bucket_bytes = statistics.mean(spill.size_bytes)
    del ids
    with QuarantineWriter(tmp_path / "quarantine.parquet") as quarantine:
        join_ids(tmp_path, ROWS, spill, [], quarantine, part_rows=5)
    above = [each - spill.allocated[0] for each in spill.allocated]
    assert statistics.median(above) < bucket_bytes / 2
