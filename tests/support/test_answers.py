"""Who checks answers under load finds each of the faults that a server could have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.support.answers import AnswerBook, alike
from tests.support.published import answers_of, publish_different


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> AnswerBook:
    return answers_of(publish_different(tmp_path_factory.mktemp("book"), 2).home, each=10)


def an_answer(book: AnswerBook, says: str, hits_of: str, **more: str) -> tuple[dict[str, str], bytes]:
    """Of question 0, from a server that says one release and has the hits of another."""
    right = book.releases[says]
    hits = [{"id": name, "score": score, "fields": {}} for name, score in book.releases[hits_of].hits[0]]
    headers = {
        "embedmill-release": says,
        "embedmill-model": right.model,
        "embedmill-release-number": str(right.number),
    }
    return headers | more, json.dumps({"release": says, "hits": hits}).encode()


def test_a_right_answer_has_no_fault(book: AnswerBook) -> None:
    for name in book.releases:
        assert book.fault(0, 200, *an_answer(book, name, name)) == ""


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ({"embedmill-model": "another"}, "digest"),
        ({"embedmill-release-number": "7"}, "number"),
        ({"embedmill-release": "another"}, "mixed"),
    ],
)
def test_labels_of_another_release_are_a_fault(book: AnswerBook, more: dict[str, str], fault: str) -> None:
    name = next(iter(book.releases))
    headers, body = an_answer(book, name, name)
    assert book.fault(0, 200, headers | more, body).startswith(fault)


def test_hits_of_another_release_are_a_fault_that_names_it(book: AnswerBook) -> None:
    one, other = book.releases
    said = book.fault(0, 200, *an_answer(book, one, other))
    assert said == f"mixed: says {one}, has the hits of ['{other}']"


def test_an_error_is_a_failed_answer(book: AnswerBook) -> None:
    assert book.fault(0, 503, {}, b"busy").startswith("failed: 503")


def test_only_hits_that_are_as_near_as_the_last_may_be_exchanged() -> None:
    right = [("a", 0.9), ("b", 0.5), ("c", 0.5)]
    assert alike([("a", 0.9), ("c", 0.5), ("d", 0.5)], right)
    assert not alike([("x", 0.9), ("b", 0.5), ("c", 0.5)], right)
    assert not alike([("a", 0.8), ("b", 0.5), ("c", 0.5)], right)
    assert not alike(right[:2], right)


def test_nearly_every_question_tells_the_releases_apart(book: AnswerBook, tmp_path: Path) -> None:
    assert book.told_apart() > 0.99
