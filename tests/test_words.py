from __future__ import annotations

import pytest

from embedmill.words import counted, portion


@pytest.mark.parametrize(("count", "said"), [(0, "0 queries"), (1, "1 query"), (2_000, "2,000 queries")])
def test_a_count_is_followed_by_the_right_word(count: int, said: str) -> None:
    assert counted(count, "query", "queries") == said
    assert counted(count, "item") == said.replace("queries", "items").replace("query", "item")


@pytest.mark.parametrize(
    ("part", "whole", "said"),
    [(0, 2, "0 of 2 items have"), (1, 2, "1 of 2 items has"), (0, 1, "0 of 1 item has")],
)
def test_a_portion_agrees_with_its_verb_and_its_whole(part: int, whole: int, said: str) -> None:
    assert portion(part, whole, "item", "has moved") == f"{said} moved"
    assert portion(part, whole, "item", "is new") == f"{said.replace('has', 'is').replace('have', 'are')} new"
