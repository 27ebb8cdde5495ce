"""The copied keys of a vector table answer as the table does."""

from __future__ import annotations

import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedmill.digest import digest_list, digests_from_bytes
from embedmill.release.keys import Ascending, TableKeys
from embedmill.release.vectors import VectorPart, VectorTable

prints = st.tuples(st.sampled_from([b"\0" * 8, b"a" * 8, b"\xff" * 8]), st.sampled_from(b"\0\1\xff")).map(
    lambda halves: halves[0] + b"\0" * 7 + bytes([halves[1]])
) | st.binary(min_size=16, max_size=16)


def part_of(found: list[bytes]) -> VectorPart:
    """The digest of each vector is its fingerprint backwards."""
    ordered = sorted(found)
    return VectorPart(
        digests_from_bytes(b"".join(ordered)),
        np.zeros((len(ordered), 1), dtype=np.float32),
        digests_from_bytes(b"".join(each[::-1] for each in ordered)),
    )


@given(
    parts=st.lists(st.lists(prints, max_size=8, unique=True), max_size=4),
    asked=st.lists(prints, max_size=12),
)
def test_rows_and_digests_are_those_of_the_table(parts: list[list[bytes]], asked: list[bytes]) -> None:
    """Parts overlap, as those of segments do; one fingerprint may lie in several."""
    table = VectorTable([part_of(found) for found in parts])
    wanted = digests_from_bytes(b"".join([*asked, *(each for found in parts for each in found)]))
    for few_rows in (0, len(table)):
        with tempfile.TemporaryDirectory() as folder:
            keys = TableKeys(table, Path(folder) / "keys", few_rows=few_rows)
            assert (Path(folder) / "keys").exists() == (len(table) > few_rows)
            rows = keys.locate(wanted)
            assert rows.tolist() == table.locate(wanted).tolist()
            assert digest_list(keys.digests(rows)) == digest_list(table.digests(rows))


def test_digests_that_are_not_copied_are_the_tables(tmp_path: Path) -> None:
    table = VectorTable([part_of([b"a" * 16, b"b" * 16])])
    keys = TableKeys(table, tmp_path / "keys", digests=False, few_rows=0)
    rows = keys.locate(digests_from_bytes(b"b" * 16 + b"c" * 16))
    assert rows.tolist() == [1, -1]
    assert digest_list(keys.digests(rows)) == digest_list(table.digests(rows))
    assert {file.name for file in (tmp_path / "keys").iterdir()} == {"high", "low"}


@given(
    numbers=st.lists(st.integers(0, 2**64 - 1) | st.integers(2**40, 2**40 + 99), min_size=1, max_size=60),
    asked=st.lists(st.integers(0, 2**64 - 1) | st.integers(2**40, 2**40 + 99), max_size=20),
)
def test_numbers_are_found_where_a_search_of_all_of_them_finds_them(
    numbers: list[int], asked: list[int]
) -> None:
    """However many share their leading bits, and whatever is less or more than all."""
    ordered = np.sort(np.array(numbers, dtype=np.uint64))
    wanted = np.array([*asked, *numbers], dtype=np.uint64)
    assert Ascending(ordered).search(wanted).tolist() == np.searchsorted(ordered, wanted).tolist()


@pytest.mark.parametrize("rows", [1, 3, 500])
def test_many_small_segments_take_little_memory_and_are_searched_alike(tmp_path: Path, rows: int) -> None:
    """As each day's new vectors are one: a table of beginnings for each grows with its rows."""
    numbers = np.random.default_rng(1).integers(0, 2**64, size=(200, rows, 2), dtype=np.uint64)
    parts = [part_of([row.tobytes() for row in segment]) for segment in numbers]
    table = VectorTable(parts)
    tracemalloc.start()
    keys = TableKeys(table, tmp_path / "keys", few_rows=0)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken < len(parts) * (4096 + 8 * rows)
    wanted = digests_from_bytes(numbers.tobytes() + b"none".ljust(16))
    assert keys.locate(wanted).tolist() == table.locate(wanted).tolist()
