from __future__ import annotations

from pathlib import Path

from quality import Found, Query, collapse, is_right, read_queries

QUERIES = Path(__file__).resolve().parents[2] / "examples" / "demo" / "queries.yaml"
APPLE = Found(base="1F34E", name="red apple", subcategory="food-fruit")


def test_an_item_is_right_by_base_id_subcategory_or_whole_word() -> None:
    assert is_right(Query("?", ids=frozenset({"1F34E"})), APPLE)
    assert is_right(Query("?", subcategories=frozenset({"food-fruit"})), APPLE)
    assert is_right(Query("?", words=("apple",)), APPLE)
    assert not is_right(Query("?", frozenset({"1F34F"}), frozenset({"drink"}), ("app", "red pear")), APPLE)


def test_ids_match_with_or_without_the_variation_selector() -> None:
    frowning = Found(base="2639-FE0F", name="frowning face", subcategory="face-concerned")
    assert is_right(Query("?", ids=frozenset({"2639"})), frowning)


def test_skin_tone_variants_count_as_one_item_and_the_best_of_them_stays() -> None:
    hits = [
        Found("A", "a, dark skin tone", "x"),
        Found("A", "a", "x"),
        Found("B", "b", "x"),
        Found("C", "c", "x"),
    ]
    assert [hit.name for hit in collapse(hits, 2)] == ["a, dark skin tone", "b"]
    assert len(collapse(hits, 5)) == 3


def test_the_queries_are_twenty_each_with_a_rule() -> None:
    queries = read_queries(QUERIES)
    assert len({query.text for query in queries}) == 20
    assert all(query.ids or query.subcategories or query.words for query in queries)
