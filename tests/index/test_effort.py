"""The effort of a graph is what its recall needs, measured on rows that were not in it yet."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from embedmill.index import UNMEASURED, FlatIndex, HnswIndex, Selection, build_graph
from embedmill.spec import IndexSpec
from embedmill.types import Vectors

DIMENSION = 24


def unit_vectors(rows: int, seed: int = 0) -> Vectors:
    vectors = np.random.default_rng(seed).normal(size=(rows, DIMENSION)).astype(np.float32)
    found: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return found


def recall(index: HnswIndex, vectors: Vectors) -> float:
    """Recall@10 of queries that no graph has seen."""
    queries, all_rows = unit_vectors(400, seed=1), Selection(np.ones(len(vectors), dtype=np.bool_))
    found = index.search(queries, 10, all_rows).rows_QK
    nearest = FlatIndex([vectors]).search(queries, 10, all_rows).rows_QK
    shared = [len({*one} & {*other}) for one, other in zip(found.tolist(), nearest.tolist(), strict=True)]
    return sum(shared) / nearest.size


@pytest.mark.parametrize("wanted", [0.8, 0.95, 0.99])
def test_the_effort_reaches_the_recall_for_queries_that_are_not_in_the_graph(wanted: float) -> None:
    vectors = unit_vectors(6000)
    built = build_graph([vectors], DIMENSION, IndexSpec(links=8, build_effort=32, recall=wanted))
    assert built.recall is not None
    assert built.recall >= wanted
    assert recall(built.graph.with_effort(built.search_effort), vectors) >= wanted - 0.01


def test_the_effort_is_no_greater_than_the_recall_needs() -> None:
    vectors = unit_vectors(6000)
    efforts = [
        build_graph([vectors], DIMENSION, IndexSpec(links=8, build_effort=32, recall=wanted)).search_effort
        for wanted in (0.6, 0.9, 0.99)
    ]
    assert efforts == sorted(set(efforts))


@pytest.mark.parametrize("cuts", [[], [2300], [100, 2350, 2399], [2400, 2400]])
def test_rows_that_were_held_out_are_in_the_graph_in_their_order(cuts: list[int]) -> None:
    vectors = unit_vectors(2400)
    built = build_graph(np.split(vectors, cuts), DIMENSION, IndexSpec())
    all_rows = Selection(np.ones(2400, dtype=np.bool_))
    found = built.graph.with_effort(256).search(vectors[2200:], 1, all_rows)
    assert found.rows_QK[:, 0].tolist() == list(range(2200, 2400))


def test_a_stated_effort_is_not_measured() -> None:
    built = build_graph([unit_vectors(2400)], DIMENSION, IndexSpec(search_effort=20))
    assert (built.search_effort, built.recall) == (20, None)


def test_too_few_rows_to_hold_some_out_get_the_effort_that_has_always_been() -> None:
    built = build_graph([unit_vectors(300)], DIMENSION, IndexSpec())
    assert (built.search_effort, built.recall) == (UNMEASURED, None)


@pytest.mark.parametrize("different", [1, 600])
def test_rows_that_are_equally_near_are_as_good_as_each_other(different: int) -> None:
    same = np.repeat(unit_vectors(different), 2400 // different, axis=0)
    order = np.random.default_rng(2).permutation(len(same))
    built = build_graph([same[order]], DIMENSION, IndexSpec(recall=0.95))
    assert built.recall is not None
    assert built.recall >= 0.95
    assert built.search_effort < 200


def test_where_copies_keep_rows_from_being_found_no_effort_is_spent_in_vain() -> None:
    """A graph links copies with each other, and thousands of them with nothing else (decision 0054)."""
    vectors = np.concatenate([unit_vectors(2000), np.repeat(unit_vectors(10, seed=5), 1000, axis=0)])
    order = np.random.default_rng(2).permutation(len(vectors))
    built = build_graph([vectors[order]], DIMENSION, IndexSpec())
    assert built.recall is not None
    assert built.recall < 0.98
    assert built.search_effort < 4096


def test_a_recall_out_of_reach_ends_at_an_effort_that_finds_as_much_as_looking_at_every_row() -> None:
    vectors = unit_vectors(2400)
    built = build_graph([vectors], DIMENSION, IndexSpec(links=4, build_effort=8, recall=0.999))
    assert built.recall is not None
    assert built.recall < 0.999
    everything = recall(built.graph.with_effort(2400), vectors)
    assert recall(built.graph.with_effort(built.search_effort), vectors) >= everything - 0.01
    assert recall(built.graph.with_effort(built.search_effort // 4), vectors) < everything - 0.01


def test_a_graph_does_not_keep_options_for_every_number_of_hits_ever_asked_for() -> None:
    faiss = pytest.importorskip("faiss")
    vectors = unit_vectors(400)
    graph, all_rows = HnswIndex.build([vectors], DIMENSION, IndexSpec()), Selection(np.ones(400, np.bool_))
    for k in range(100, 200):
        graph.search(vectors[:1], k, all_rows)
    kept = [each for each in gc.get_objects() if type(each) is faiss.SearchParametersHNSW]
    assert 0 < len(kept) < 20
