"""Goldens of items that were edited or deleted: what is published of an ordinary day is served."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.serving.conftest import load
from tests.support.mill import Mill, items

from embedmill.errors import ProofFailed
from embedmill.index import build_graph
from embedmill.release.reader import Release
from embedmill.serving.proof import Proof, release_goldens

KEPT = {"compact_above": 1.0}
"""Deleted items' vectors stay in the tables."""


def golden_titles(release: Release) -> set[str]:
    """Titles of the release's item goldens."""
    goldens = release_goldens(release, "item")
    assert goldens is not None
    return set(goldens.column("title").to_pylist())


def served(release: Release) -> Proof:
    """What a server finds that loads the release."""
    found = load(release)
    found.close()
    return found.proof


@pytest.mark.parametrize("compact_above", [0.0, 1.0])
def test_a_release_is_served_after_items_were_deleted(mill: Mill, compact_above: float) -> None:
    mill.settings = {"goldens": 32, "compact_above": compact_above}
    mill.run(items(100))
    gone = sorted(golden_titles(mill.live()))[:5]
    mill.run([row for row in items(100) if row["title"] not in gone])
    assert not golden_titles(mill.live()) & set(gone)
    proof = served(mill.live())
    assert proof.searched == len(golden_titles(mill.live())) >= 27
    assert [shown.goldens for shown in proof.encoders] == [proof.searched] * 2


def test_every_release_is_served_of_days_of_edits_with_compactions_between(mill: Mill) -> None:
    mill.settings = {"goldens": 32}
    rows: list[dict[str, Any]] = items(120)
    mill.run(rows)
    compacted = []
    for day in range(7):
        for row in rows[day * 10 : day * 10 + 10]:
            row["title"] += f" of day {day}"
        compacted.append(mill.run(rows).compacted)
        titles = golden_titles(mill.live())
        assert titles <= {row["title"] for row in rows}
        assert len(titles) >= 32
        assert served(mill.live()).searched == 32
    assert set(compacted) == {True, False}


@pytest.mark.parametrize("left", [0, 3])
def test_goldens_of_deleted_items_prove_the_encoder_where_no_others_are_left(mill: Mill, left: int) -> None:
    mill.settings = {"goldens": 64} | KEPT
    mill.run(items(200))
    before = sorted(golden_titles(mill.live()))
    mill.run([row for row in items(200) if row["title"] not in before[left:]])
    after = golden_titles(mill.live())
    assert set(before[:left]) <= after < set(before)
    assert len(after) == 8
    proof = served(mill.live())
    assert [shown.goldens for shown in proof.encoders] == [8, 8]
    assert proof.searched == (left or 32)


def test_new_items_take_the_place_of_goldens_that_are_gone(mill: Mill) -> None:
    mill.settings = {"goldens": 16} | KEPT
    mill.run(items(50))
    mill.run(items(50, start=100))
    assert golden_titles(mill.live()) <= {f"item {number}" for number in range(100, 150)}
    assert served(mill.live()).searched >= 16


@pytest.mark.parametrize("all_gone", [False, True])
def test_an_index_of_other_vectors_is_not_served(mill: Mill, all_gone: bool) -> None:
    mill.settings = {"goldens": 8, "index": {"kind": "hnsw", "exact_below": 10}} | KEPT
    mill.run(items(100))
    gone = golden_titles(mill.live()) if all_gone else set()
    mill.run([row for row in items(100) if row["title"] not in gone])
    release = mill.live()
    segment = release.content.segments[0]
    assert segment.index is not None
    vectors = np.concatenate([part.vectors_ND for part in release.segment_parts(segment)])
    other = build_graph([-vectors], release.content.dimension, release.content.pipeline.index)
    file = release.folder / segment.index.path
    file.unlink()
    other.graph.save(file)
    with pytest.raises(ProofFailed, match="does not find"):
        served(release)
