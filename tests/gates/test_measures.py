"""Figures of rankings that can be checked by hand, and intervals that behave as intervals should."""

from __future__ import annotations

from math import log2

import numpy as np
import pytest

from embedmill.gates.measures import bootstrap, ndcg, recall

RECALL = [
    (["a", "b", "c"], {"a": 1.0}, 3, 1.0),
    (["a", "b", "c"], {"c": 1.0}, 2, 0.0),
    (["a", "b", "c"], {"a": 3.0, "c": 1.0, "x": 1.0, "y": 1.0}, 3, 0.5),
    ([], {"a": 1.0}, 3, 0.0),
    (["a"], {"a": 1.0, "b": 1.0}, 1, 0.5),
]


@pytest.mark.parametrize(("ids", "grades", "k", "expected"), RECALL)
def test_recall_is_the_share_of_relevant_items_among_the_first_k(
    ids: list[str], grades: dict[str, float], k: int, expected: float
) -> None:
    assert recall(ids, grades, k) == expected


NDCG = [
    (["a", "b"], {"a": 3.0, "b": 1.0}, 10, 1.0),
    (["b", "a"], {"a": 3.0, "b": 1.0}, 10, (1 + 3 / log2(3)) / (3 + 1 / log2(3))),
    (["x", "a"], {"a": 1.0}, 10, 1 / log2(3)),
    (["x", "a"], {"a": 1.0}, 1, 0.0),
    (["a"], {"a": 1.0, "b": 1.0, "c": 1.0}, 1, 1.0),
    ([], {"a": 1.0}, 5, 0.0),
]


@pytest.mark.parametrize(("ids", "grades", "k", "expected"), NDCG)
def test_ndcg_discounts_grades_by_rank(
    ids: list[str], grades: dict[str, float], k: int, expected: float
) -> None:
    assert ndcg(ids, grades, k) == pytest.approx(expected)


def test_equal_differences_have_an_interval_without_width() -> None:
    found = bootstrap(np.full(7, -0.25), 0.95)
    assert (found.mean, found.low, found.high) == (-0.25, -0.25, -0.25)


def test_an_interval_is_the_same_each_time_and_grows_with_confidence() -> None:
    differences = np.random.default_rng(1).normal(size=200)
    first, again, wider = (bootstrap(differences, confidence) for confidence in (0.9, 0.9, 0.99))
    assert first == again
    assert wider.low < first.low < first.mean < first.high < wider.high


def test_an_interval_is_as_wide_as_theory_says() -> None:
    differences = np.random.default_rng(2).normal(size=1000)
    found = bootstrap(differences, 0.95)
    expected = 1.96 * differences.std() / np.sqrt(1000)
    assert found.high - found.mean == pytest.approx(expected, rel=0.05)
    assert found.mean - found.low == pytest.approx(expected, rel=0.05)


def test_noise_around_zero_is_called_worse_about_as_often_as_the_confidence_allows() -> None:
    """One tail of 5 %: that is 2.5 % of 400, and 10 expected."""
    noise = np.random.default_rng(3).normal(size=(400, 60))
    worse = sum(bootstrap(differences, 0.95).high < 0 for differences in noise)
    assert 2 <= worse <= 25
