"""The copied fingerprints answer as the vector table does."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from embedmill.digest import digests_from_bytes
from embedmill.planning.known import KnownPrints
from embedmill.release.vectors import VectorPart, VectorTable

keys = st.tuples(st.sampled_from([b"\0" * 8, b"a" * 8, b"\xff" * 8]), st.sampled_from(b"\0\1\xff")).map(
    lambda halves: halves[0] + b"\0" * 7 + bytes([halves[1]])
) | st.binary(min_size=16, max_size=16)


def part_of(found: list[bytes]) -> VectorPart:
    prints = digests_from_bytes(b"".join(sorted(found)))
    return VectorPart(prints, np.zeros((len(prints), 1), dtype=np.float32), prints)


@given(
    parts=st.lists(st.lists(keys, min_size=1, max_size=8, unique=True), min_size=1, max_size=4),
    asked=st.lists(keys, max_size=12),
)
def test_what_is_known_is_what_some_part_has(parts: list[list[bytes]], asked: list[bytes]) -> None:
    table = VectorTable([part_of(found) for found in parts])
    everything = {key for found in parts for key in found}
    wanted = [*asked, *sorted(everything)]
    for few_rows in (0, len(table)):
        with tempfile.TemporaryDirectory() as folder:
            known = KnownPrints(table, Path(folder) / "known", few_rows=few_rows)
            assert (Path(folder) / "known").exists() == (few_rows == 0)
            found = known.has(digests_from_bytes(b"".join(wanted))).tolist()
            assert found == [key in everything for key in wanted]


def test_nothing_is_known_of_a_table_without_rows(tmp_path: Path) -> None:
    known = KnownPrints(VectorTable([]), tmp_path / "known", few_rows=0)
    assert known.has(digests_from_bytes(b"a" * 16)).tolist() == [False]
