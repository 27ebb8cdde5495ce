"""Shards: a row for each new content, cut by cost, always in the same way."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from embedmill.digest import digests_from_bytes, digests_to_arrow
from embedmill.planning.freeze import count_distinct, freeze
from embedmill.planning.gather import gather
from embedmill.planning.shards import FrozenShard
from embedmill.planning.spill import Spill

SCHEMA = pa.schema(
    [("_fingerprint", pa.binary(16)), ("_row", pa.int64()), ("_cost", pa.int64()), ("title", pa.string())]
)
Rows = Sequence[tuple[bytes, int, str]]


def spilled(folder: Path, rows: Rows, *, batch: int = 1000) -> Spill:
    """Rows are (fingerprint, cost, title), numbered as they come."""
    spill = Spill(folder, SCHEMA, ThreadPoolExecutor(1))
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        prints = digests_from_bytes(b"".join(fingerprint for fingerprint, _, _ in part))
        columns = [
            digests_to_arrow(prints),
            pa.array(range(start, start + len(part)), pa.int64()),
            pa.array([cost for _, cost, _ in part], pa.int64()),
            pa.array([title for _, _, title in part]),
        ]
        spill.add(pa.RecordBatch.from_arrays(columns, schema=SCHEMA), prints)
    return spill


def frozen(
    folder: Path,
    rows: Rows,
    shard_rows: int,
    *,
    dropped: Sequence[int] = (),
    batch: int = 1000,
    **options: Any,
) -> list[FrozenShard]:
    folder.mkdir(exist_ok=True)
    mask = np.zeros(len(rows), dtype=np.bool_)
    mask[list(dropped)] = True
    return freeze(
        folder / "frozen", spilled(folder / "spill", rows, batch=batch), mask, shard_rows, **options
    )


def table_of(shard: FrozenShard) -> pa.Table:
    with pa.memory_map(str(shard.file)) as source:
        return pa.ipc.open_file(source).read_all()


def titles(shards: Sequence[FrozenShard]) -> list[str]:
    return [title for shard in shards for title in table_of(shard).column("title").to_pylist()]


def random_rows(count: int, seed: int, most_cost: int = 100) -> list[tuple[bytes, int, str]]:
    chance = random.Random(seed)
    return [(chance.randbytes(16), chance.randint(1, most_cost), f"row {n}") for n in range(count)]


def test_rows_are_ascending_by_fingerprint_over_all_shards(tmp_path: Path) -> None:
    rows = random_rows(500, seed=1)
    shards = frozen(tmp_path, rows, shard_rows=40)
    assert titles(shards) == [title for _, _, title in sorted(rows)]
    prints = [value for shard in shards for value in table_of(shard).column("_fingerprint").to_pylist()]
    assert prints == sorted(fingerprint for fingerprint, _, _ in rows)
    assert [shard.name for shard in shards] == [f"{n:05d}" for n in range(len(shards))]
    assert [shard.rows for shard in shards] == [len(table_of(shard)) for shard in shards]


def test_of_equal_contents_the_first_row_of_the_catalog_is_kept(tmp_path: Path) -> None:
    same = b"s" * 16
    rows = [
        (b"a" * 16, 1, "a"),
        (same, 1, "first"),
        (b"z" * 16, 1, "z"),
        (same, 1, "second"),
        (same, 1, "third"),
    ]
    assert titles(frozen(tmp_path, rows, shard_rows=10, batch=2)) == ["a", "first", "z"]


def test_the_first_of_many_equal_contents_is_kept_too(tmp_path: Path) -> None:
    """Sorting must be stable, which unstable sorts of few rows are by chance."""
    prints = [bytes([n % 3]) * 16 for n in range(900)]
    rows = [(fingerprint, 1, f"row {n}") for n, fingerprint in enumerate(prints)]
    assert titles(frozen(tmp_path, rows, shard_rows=10)) == ["row 0", "row 1", "row 2"]


def test_dropped_rows_are_not_computed_and_do_not_stand_for_their_contents(tmp_path: Path) -> None:
    rows = [(b"a" * 16, 1, "dropped alone"), (b"s" * 16, 1, "dropped"), (b"s" * 16, 1, "kept")]
    assert titles(frozen(tmp_path, rows, shard_rows=10, dropped=[0, 1])) == ["kept"]


def test_nothing_to_compute_makes_no_shard(tmp_path: Path) -> None:
    assert frozen(tmp_path, [], shard_rows=10) == []
    assert frozen(tmp_path / "other", [(b"a" * 16, 1, "a")], shard_rows=10, dropped=[0]) == []


@pytest.mark.parametrize("shard_rows", [1, 7, 100, 1000])
def test_shards_have_about_equal_cost_and_on_average_the_rows_that_were_asked_for(
    tmp_path: Path, shard_rows: int
) -> None:
    rows = random_rows(1000, seed=2)
    shards = frozen(tmp_path, rows, shard_rows)
    target = sum(cost for _, cost, _ in rows) / (1000 / shard_rows)
    assert sum(shard.cost for shard in shards) == sum(cost for _, cost, _ in rows)
    assert all(abs(shard.cost - target) <= 100 for shard in shards)
    if shard_rows > 1:
        assert len(shards) == round(1000 / shard_rows)


def test_a_row_that_costs_more_than_a_shard_is_one_of_its_own(tmp_path: Path) -> None:
    rows = [(bytes([n]) * 16, 1000 if n == 5 else 1, f"row {n}") for n in range(10)]
    shards = frozen(tmp_path, rows, shard_rows=2)
    dear = next(shard for shard in shards if shard.cost >= 1000)
    assert "row 5" in titles([dear])
    assert sorted(titles(shards)) == sorted(title for _, _, title in rows)
    assert len(shards) <= 5


def test_shards_are_the_same_bytes_however_many_buckets_are_worked_on_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = random_rows(900, seed=6)
    ahead = frozen(tmp_path / "ahead", rows, shard_rows=40, dropped=range(0, 900, 7))
    monkeypatch.setattr("embedmill.planning.ahead.AHEAD_BYTES", 0)
    alone = frozen(tmp_path / "alone", rows, shard_rows=40, dropped=range(0, 900, 7))
    assert [(shard.name, shard.rows, shard.cost) for shard in ahead] == [
        (shard.name, shard.rows, shard.cost) for shard in alone
    ]
    assert [shard.file.read_bytes() for shard in ahead] == [shard.file.read_bytes() for shard in alone]


@pytest.mark.parametrize("batch", [1, 50])
def test_rows_that_are_copied_from_where_they_lie_make_the_same_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    """As large rows are, in place of a copy of their whole bucket."""
    rows = random_rows(900, seed=7)
    options: dict[str, Any] = {"dropped": range(0, 900, 7), "batch": batch}
    copied = frozen(tmp_path / "copied", rows, shard_rows=40, **options)
    monkeypatch.setattr("embedmill.planning.freeze.LARGE_ROW_BYTES", 0)
    monkeypatch.setattr("embedmill.planning.freeze.gather", None)
    apart = frozen(tmp_path / "apart", rows, shard_rows=40, **options)
    assert len(apart) > 10
    assert [shard.file.read_bytes() for shard in apart] == [shard.file.read_bytes() for shard in copied]
    assert [(shard.rows, shard.cost) for shard in apart] == [(shard.rows, shard.cost) for shard in copied]


@pytest.mark.parametrize("batch", [1, 3, 50])
def test_cuts_do_not_depend_on_the_batches_that_rows_came_in(tmp_path: Path, batch: int) -> None:
    rows = random_rows(200, seed=3)
    one = frozen(tmp_path / "one", rows, shard_rows=15)
    other = frozen(tmp_path / "other", rows, shard_rows=15, batch=batch)
    assert [(shard.name, shard.rows, shard.cost) for shard in one] == [
        (shard.name, shard.rows, shard.cost) for shard in other
    ]
    assert [shard.file.read_bytes() for shard in one] == [shard.file.read_bytes() for shard in other]


def test_cuts_do_not_depend_on_the_order_of_the_catalog(tmp_path: Path) -> None:
    rows = random_rows(200, seed=4)
    one = frozen(tmp_path / "one", rows, shard_rows=15)
    other = frozen(tmp_path / "other", rows[::-1], shard_rows=15)
    assert titles(one) == titles(other)
    assert [shard.rows for shard in one] == [shard.rows for shard in other]


@pytest.mark.parametrize("large_row_bytes", [0, 1 << 20])
def test_a_shard_is_cut_when_it_has_many_bytes_so_that_a_worker_can_hold_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large_row_bytes: int
) -> None:
    monkeypatch.setattr("embedmill.planning.freeze.LARGE_ROW_BYTES", large_row_bytes)
    rows = [(bytes([n]) * 16, 1, "x" * 1000) for n in range(100)]
    shards = frozen(tmp_path, rows, shard_rows=1000, shard_bytes=10_000)
    assert all(table_of(shard).nbytes <= 2 * 10_000 for shard in shards)
    assert sum(shard.rows for shard in shards) == 100


def test_no_more_than_a_piece_of_large_rows_is_gathered_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = list[int]()

    def measured(table: pa.Table, rows: Any) -> pa.Table:
        found = gather(table, rows)
        sizes.append(found.nbytes)
        return found

    monkeypatch.setattr("embedmill.planning.freeze.gather", measured)
    rows = [(bytes([0, n]) * 8, 1, "x" * 1000) for n in range(100)]
    frozen(tmp_path, rows, shard_rows=1000, shard_bytes=10_000)
    assert sum(sizes) > 100 * 1000
    assert max(sizes) < 2 * 10_000


@pytest.mark.parametrize("large", [1500, 5000, 25_000, 80_000])
def test_large_rows_that_lie_together_are_cut_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: int
) -> None:
    """By rows alone they were one piece, which Arrow does not gather where it has 2 GiB of texts."""
    pieces = list[pa.Table]()

    def kept(table: pa.Table, rows: Any) -> pa.Table:
        pieces.append(gather(table, rows))
        return pieces[-1]

    monkeypatch.setattr("embedmill.planning.freeze.gather", kept)
    rows = [(bytes([0, n]) * 8, 1, "x" * (large if 40 <= n < 60 else 10)) for n in range(100)]
    shards = frozen(tmp_path, rows, shard_rows=1000, shard_bytes=10_000)
    assert all(len(piece) == 1 or piece.nbytes <= 20_000 for piece in pieces)
    assert all(shard.rows == 1 or table_of(shard).nbytes <= 30_000 for shard in shards)
    assert titles(shards) == [title for _, _, title in rows]


def test_a_single_row_of_more_bytes_than_a_shard_may_have_is_a_shard(tmp_path: Path) -> None:
    rows = [(bytes([n]) * 16, 1, "x" * (50_000 if n == 1 else 10)) for n in range(3)]
    shards = frozen(tmp_path, rows, shard_rows=1000, shard_bytes=10_000)
    assert titles(shards) == [title for _, _, title in rows]
    assert [shard.rows for shard in shards] == [1, 1, 1]


def test_distinct_contents_are_counted_over_all_buckets(tmp_path: Path) -> None:
    rows = [*random_rows(100, seed=5), *random_rows(100, seed=5), (b"\0" * 16, 1, ""), (b"\0" * 16, 1, "")]
    assert count_distinct(spilled(tmp_path / "spill", rows)) == 101


def test_who_cannot_write_a_shard_leaves_no_thread_behind(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    rows = [(bytes([number]) * 16, 1, "lamp") for number in range(256)]
    with pytest.raises(ZeroDivisionError) as caught:
        frozen(tmp_path, rows, 10, shard_bytes=0)
    left = [each.name for each in threading.enumerate() if each not in before]
    assert not any(name.startswith("ahead") for name in left), caught.value
