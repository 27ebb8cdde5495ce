"""Vector files: what is written is read back bit by bit, and found by fingerprint."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedmill.digest import digest_bytes, digest_list, digests_from_bytes
from embedmill.errors import ReleaseCorrupt
from embedmill.release.vectors import VectorPart, VectorTable, vector_digests, write_vectors
from embedmill.types import Digests, Vectors

keys = st.binary(min_size=16, max_size=16) | st.integers(0, 7).map(lambda n: bytes([n]) + b"\0" * 15)


def digests(values: list[bytes]) -> Digests:
    return digests_from_bytes(b"".join(values))


def part_of(values: list[bytes], first: int = 0) -> VectorPart:
    """Vectors that have their row's number in them."""
    vectors = np.arange(first, first + len(values), dtype=np.float32)[:, None] * np.ones(3, dtype=np.float32)
    return VectorPart(digests(values), vectors, vector_digests(vectors))


def random_vectors(rows: int, dimension: int = 5, seed: int = 0) -> Vectors:
    return np.random.default_rng(seed).normal(size=(rows, dimension)).astype(np.float32)


def test_what_is_written_is_read_back_to_the_bit(tmp_path: Path) -> None:
    prints = digests(sorted(np.random.default_rng(1).bytes(16) for _ in range(100)))
    vectors = random_vectors(100)
    vectors[0, 0] = -0.0
    write_vectors(tmp_path / "part.arrow", prints, vectors)
    part = VectorPart.open(tmp_path / "part.arrow")
    assert part.vectors_ND.tobytes() == vectors.tobytes()
    assert digest_bytes(part.fingerprints) == digest_bytes(prints)
    assert digest_list(part.digests) == [
        hashlib.blake2b(vector.tobytes(), digest_size=16).digest() for vector in vectors
    ]


@pytest.mark.parametrize("layout", ["transposed", "strided", "float64"])
def test_any_array_may_be_written(tmp_path: Path, layout: str) -> None:
    wanted = random_vectors(4, 6)
    layouts: dict[str, npt.NDArray[Any]] = {
        "transposed": np.asfortranarray(wanted),
        "strided": np.repeat(wanted, 2, axis=0)[::2],
        "float64": wanted.astype(np.float64),
    }
    write_vectors(tmp_path / "part.arrow", digests([bytes([n]) * 16 for n in range(4)]), layouts[layout])
    assert VectorPart.open(tmp_path / "part.arrow").vectors_ND.tobytes() == wanted.tobytes()


def test_equal_files_have_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "other"):
        write_vectors(tmp_path / name, digests([b"a" * 16]), random_vectors(1))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


@pytest.mark.parametrize("data", [b"", b"ARROW1", b"PAR1" * 100])
def test_a_file_of_another_kind_is_corrupt_and_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "part.arrow").write_bytes(data)
    with pytest.raises(ReleaseCorrupt, match=r"part\.arrow: not a vector file"):
        VectorPart.open(tmp_path / "part.arrow")


@given(
    parts=st.lists(st.lists(keys, max_size=8, unique=True), max_size=4), wanted=st.lists(keys, max_size=12)
)
def test_locating_finds_just_what_a_dictionary_finds(parts: list[list[bytes]], wanted: list[bytes]) -> None:
    known: dict[bytes, int] = {}
    made, rows = [], 0
    for values in parts:
        values = sorted(set(values) - set(known))
        known |= {value: rows + at for at, value in enumerate(values)}
        made.append(part_of(values, rows))
        rows += len(values)
    table = VectorTable(made)
    assert len(table) == rows
    asked = wanted + list(known)[::-1] + wanted
    found = table.locate(digests(asked))
    assert found.tolist() == [known.get(key, -1) for key in asked]
    if rows:
        assert table.vectors(found)[:, 0].tolist() == [max(0, known.get(key, -1)) for key in asked]
    assert digest_list(table.fingerprints(found)) == [key if key in known else b"\0" * 16 for key in asked]


def test_rows_of_minus_one_are_zero() -> None:
    table = VectorTable([part_of([b"a" * 16, b"b" * 16], 1)])
    rows = np.array([-1, 1, -1, 0])
    assert table.vectors(rows)[:, 0].tolist() == [0.0, 2.0, 0.0, 1.0]
    assert digest_list(table.digests(rows))[0] == b"\0" * 16
    assert digest_list(table.digests(rows))[1] != b"\0" * 16


def test_a_table_without_parts_has_nothing() -> None:
    table = VectorTable([])
    assert len(table) == 0
    assert table.locate(digests([b"a" * 16])).tolist() == [-1]
    assert table.locate(digests([])).tolist() == []
    assert len(VectorTable([part_of([])])) == 0
