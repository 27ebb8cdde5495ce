"""Indexes: the flat one is exact, the approximate one nearly so, and neither returns the dead."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedmill.errors import ReleaseCorrupt
from embedmill.index import FlatIndex, HnswIndex, Nearest, Selection, best_of
from embedmill.spec import IndexSpec
from embedmill.types import Mask, Vectors

ROWS, DIMENSION, QUERIES = 3000, 24, 100


def unit_vectors(rows: int, dimension: int = DIMENSION, seed: int = 0) -> Vectors:
    vectors = np.random.default_rng(seed).normal(size=(rows, dimension)).astype(np.float32)
    found: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return found


def brute_force(queries: Vectors, vectors: Vectors, live: Mask, k: int) -> list[list[int]]:
    """Rows by falling score, then by number; dead ones left out."""
    found = []
    for query in queries:
        scores = vectors @ query
        rows = [row for row in range(len(vectors)) if live[row]]
        found.append(sorted(rows, key=lambda row: (-scores[row], row))[:k])
    return found


def rows_of(nearest: Nearest) -> list[list[int]]:
    return [[row for row in rows if row >= 0] for rows in nearest.rows_QK.tolist()]


def recall(found: list[list[int]], wanted: list[list[int]]) -> float:
    hits = [len(set(one) & set(other)) / len(other) for one, other in zip(found, wanted, strict=True)]
    return sum(hits) / len(hits)


def mask(rows: int, dead: float, seed: int = 0) -> Mask:
    live: Mask = np.random.default_rng(seed).random(rows) >= dead
    return live


@pytest.mark.parametrize("cuts", [[], [1000], [1, 2, 2999]])
@pytest.mark.parametrize("dead", [0.0, 0.3, 0.999])
@pytest.mark.parametrize("k", [1, 5, 20])
@pytest.mark.parametrize("small_numbers", [0, ROWS * DIMENSION])
@pytest.mark.parametrize("queries", [unit_vectors(10, seed=1), unit_vectors(1, seed=2)], ids=["ten", "one"])
def test_the_flat_index_is_exact_over_all_parts(
    cuts: list[int], dead: float, k: int, small_numbers: int, queries: Vectors
) -> None:
    vectors, live = unit_vectors(ROWS), mask(ROWS, dead)
    index = FlatIndex(np.split(vectors, cuts), small_numbers=small_numbers)
    found = index.search(queries, k, Selection(live))
    assert rows_of(found) == brute_force(queries, vectors, live, k)
    assert found.scores_QK.dtype == np.float32
    assert found.rows_QK.dtype == np.int64


@given(
    grid=st.lists(st.lists(st.integers(-1, 1), min_size=2, max_size=2), min_size=1, max_size=30),
    cut=st.integers(0, 30),
    k=st.integers(1, 35),
    dead=st.sets(st.integers(0, 29)),
)
def test_ties_go_to_the_smaller_row(grid: list[list[int]], cut: int, k: int, dead: set[int]) -> None:
    vectors = np.array(grid, dtype=np.float32)
    live = np.array([row not in dead for row in range(len(grid))])
    queries = np.array([[1, 0], [1, 1], [0, 0]], dtype=np.float32)
    index, selection = FlatIndex(np.split(vectors, [min(cut, len(grid))])), Selection(live)
    wanted = brute_force(queries, vectors, live, k)
    assert rows_of(index.search(queries, k, selection)) == wanted
    assert [rows_of(index.search(query[None], k, selection))[0] for query in queries] == wanted


@pytest.mark.parametrize("k", [1, 7])
def test_ties_among_many_rows_go_to_the_smaller_ones(k: int) -> None:
    vectors = np.ones((ROWS, 2), dtype=np.float32)
    vectors[::3] = 2
    live = mask(ROWS, 0.5)
    found = FlatIndex(np.split(vectors, [1000])).search(vectors[:1], k, Selection(live))
    assert rows_of(found) == [np.flatnonzero(live & (vectors[:, 0] == 2))[:k].tolist()]


def test_equal_vectors_have_equal_scores_wherever_they_lie() -> None:
    vectors = np.tile(unit_vectors(1), (ROWS, 1))
    found = FlatIndex(np.split(vectors, [1, 700, 701])).search(
        unit_vectors(1, seed=1), ROWS, Selection(mask(ROWS, 0.0))
    )
    assert len(set(found.scores_QK[0].tolist())) == 1


def test_scores_are_inner_products_in_falling_order_and_missing_rows_are_told() -> None:
    vectors = np.array([[1, 0], [0, 2], [-1, 0]], dtype=np.float32)
    found = FlatIndex([vectors]).search(
        np.array([[1, 1]], dtype=np.float32), 5, Selection(np.array([True, True, False]))
    )
    assert found.rows_QK[0].tolist()[:2] == [1, 0]
    assert found.scores_QK[0].tolist()[:2] == [2.0, 1.0]
    assert set(found.rows_QK[0].tolist()[2:]) <= {-1}


def test_vectors_that_are_not_numbers_do_not_end_a_search() -> None:
    vectors = np.array([[1, 0], [np.nan, 0], [0, 1]], dtype=np.float32)
    found = FlatIndex([vectors]).search(vectors[1:], 2, Selection(np.ones(3, dtype=np.bool_)))
    assert found.rows_QK.shape == (2, 2)
    assert 2 in found.rows_QK[1]
    alone = FlatIndex([np.tile(vectors, (1000, 1))]).search(vectors[2:], 2, Selection(mask(3000, 0.0)))
    assert alone.rows_QK.tolist() == [[2, 5]]


def test_fewer_rows_that_are_not_numbers_than_are_asked_for_come_behind_the_numbers() -> None:
    rising = np.arange(ROWS, dtype=np.float32)[:, None]
    two = np.zeros((ROWS, 1), dtype=np.float32)
    two[[5, 17]] = 1
    rising[1000] = two[1000] = np.nan
    query, every = np.ones((1, 1), dtype=np.float32), Selection(mask(ROWS, 0.0))
    assert FlatIndex([rising]).search(query, 3, every).rows_QK.tolist() == [[ROWS - 1, ROWS - 2, ROWS - 3]]
    assert FlatIndex([two]).search(query, 3, every).rows_QK.tolist() == [[5, 17, 1000]]


def test_an_index_without_vectors_finds_nothing() -> None:
    found = FlatIndex([]).search(unit_vectors(2), 3, Selection(np.zeros(0, dtype=np.bool_)))
    assert found.rows_QK.shape == (2, 0)


def test_the_best_of_several_segments_are_merged() -> None:
    rows = np.array([[3, 9, -1], [4, 2, 7]])
    scores = np.array([[0.5, 0.9, -np.inf], [0.1, 0.1, 0.2]], dtype=np.float32)
    assert best_of(rows, scores, 2).rows_QK.tolist() == [[9, 3], [7, 2]]
    assert best_of(rows, scores, 9).rows_QK.tolist() == [[9, 3, -1], [7, 2, 4]]


@pytest.fixture(scope="module")
def hnsw() -> HnswIndex:
    return HnswIndex.build(np.split(unit_vectors(ROWS), [700, 701]), DIMENSION, IndexSpec(search_effort=64))


@pytest.mark.parametrize("dead", [0.0, 0.2, 0.5, 0.9, 0.99])
def test_the_graph_finds_nearly_what_is_there_and_nothing_dead(hnsw: HnswIndex, dead: float) -> None:
    live, queries = mask(ROWS, dead), unit_vectors(QUERIES, seed=1)
    found = hnsw.search(queries, 10, Selection(live))
    assert all(live[row] for rows in rows_of(found) for row in rows)
    assert recall(rows_of(found), brute_force(queries, unit_vectors(ROWS), live, 10)) >= 0.95


def test_the_graph_returns_all_live_rows_where_they_are_few(hnsw: HnswIndex) -> None:
    live = np.zeros(ROWS, dtype=np.bool_)
    live[[5, 1234, 2999]] = True
    for rows in rows_of(hnsw.search(unit_vectors(QUERIES, seed=1), 10, Selection(live))):
        assert sorted(rows) == [5, 1234, 2999]


def test_a_graph_whose_rows_are_all_dead_finds_nothing(hnsw: HnswIndex) -> None:
    found = hnsw.search(unit_vectors(3, seed=1), 10, Selection(np.zeros(ROWS, dtype=np.bool_)))
    assert rows_of(found) == [[], [], []]


def test_one_graph_serves_several_selections_in_turns(hnsw: HnswIndex) -> None:
    queries, masks = unit_vectors(5, seed=1), [mask(ROWS, dead, seed=3) for dead in (0.0, 0.5, 0.9)]
    selections = [Selection(live) for live in masks]
    for k in (3, 10, 3):
        for live, selection in zip(masks, selections, strict=True):
            found = rows_of(hnsw.search(queries, k, selection))
            assert found == rows_of(hnsw.search(queries, k, Selection(live)))
            assert all(live[row] for rows in found for row in rows)


def test_more_results_than_vectors_are_not_made_up() -> None:
    index = HnswIndex.build([unit_vectors(3)], DIMENSION, IndexSpec())
    found = index.search(unit_vectors(2, seed=1), 10, Selection(np.ones(3, dtype=np.bool_)))
    assert [sorted(rows) for rows in rows_of(found)] == [[0, 1, 2], [0, 1, 2]]


def test_scores_of_the_graph_are_those_of_the_flat_index(hnsw: HnswIndex) -> None:
    live, queries = np.ones(ROWS, dtype=np.bool_), unit_vectors(5, seed=1)
    exact = FlatIndex([unit_vectors(ROWS)]).search(queries, 1, Selection(live))
    assert np.allclose(hnsw.search(queries, 1, Selection(live)).scores_QK, exact.scores_QK, atol=1e-6)


def test_a_saved_graph_answers_as_before(hnsw: HnswIndex, tmp_path: Path) -> None:
    hnsw.save(tmp_path / "index.faiss")
    loaded = HnswIndex.load(tmp_path / "index.faiss", search_effort=64)
    queries, live = unit_vectors(20, seed=1), mask(ROWS, 0.2)
    assert (
        loaded.search(queries, 10, Selection(live)).rows_QK.tolist()
        == hnsw.search(queries, 10, Selection(live)).rows_QK.tolist()
    )


@pytest.mark.parametrize("data", [b"", b"IHNf", b"nonsense" * 100])
def test_a_file_that_is_no_graph_is_corrupt_and_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "index.faiss").write_bytes(data)
    with pytest.raises(ReleaseCorrupt, match=r"index\.faiss: not a FAISS index"):
        HnswIndex.load(tmp_path / "index.faiss", search_effort=64)
