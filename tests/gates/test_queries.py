"""What a file of labelled queries may say, and where it is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedmill.errors import SpecError
from embedmill.gates.queries import load_queries


def load(folder: Path, text: str | bytes) -> dict[str, dict[str, float]]:
    file = folder / "queries.jsonl"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return {query.text: dict(query.grades) for query in load_queries(file)}


GOOD = [
    ('{"query": "a", "relevant": ["x", "y"]}', {"a": {"x": 1.0, "y": 1.0}}),
    ('{"query": "a", "relevant": [7, "7", 8.5]}', {"a": {"7": 1.0, "8.5": 1.0}}),
    ('{"query": "a", "relevant": {"x": 3, "y": 0.5, "z": 0}}', {"a": {"x": 3.0, "y": 0.5}}),
    (
        '\n{"query": "a", "relevant": ["x"]}\r\n\n{"query": "b", "relevant": ["x"]}',
        {"a": {"x": 1}, "b": {"x": 1}},
    ),
    ('{"query": "a\u2028b\x85", "relevant": ["x"]}', {"a\u2028b\x85": {"x": 1.0}}),
    ('\ufeff{"query": "a", "relevant": ["x"]}', {"a": {"x": 1.0}}),
]


@pytest.mark.parametrize(("text", "expected"), GOOD)
def test_ids_may_be_a_list_or_have_grades(
    tmp_path: Path, text: str, expected: dict[str, dict[str, float]]
) -> None:
    assert load(tmp_path, text) == expected


FIRST = '{"query": "a", "relevant": ["x"]}\n'
BAD = [
    ("", "no query in it"),
    ("\n \n", "no query in it"),
    (b"\xff", "not UTF-8 text"),
    (FIRST + "{", ":2: not JSON"),
    (FIRST + "[]", ":2: a JSON list"),
    (FIRST + FIRST, ":2: the query 'a' is in line 1 already"),
    (FIRST + '{"relevant": ["x"]}', ":2: `query` is not a text"),
    (FIRST + '{"query": " ", "relevant": ["x"]}', ":2: `query` is not a text"),
    (FIRST + '{"query": "\\ud800", "relevant": ["x"]}', ":2: `query` is not a text"),
    (FIRST + '{"query": 5, "relevant": ["x"]}', ":2: `query` is not a text"),
    (FIRST + '{"query": "b"}', ":2: `relevant` is neither"),
    (FIRST + '{"query": "b", "relevant": "x"}', ":2: `relevant` is neither"),
    (FIRST + '{"query": "b", "relevant": []}', ":2: `relevant` names no item"),
    (FIRST + '{"query": "b", "relevant": {"x": 0}}', ":2: `relevant` names no item"),
    (FIRST + '{"query": "b", "relevant": {"x": -1}}', ":2: the grade of 'x' is -1"),
    (FIRST + '{"query": "b", "relevant": {"x": NaN}}', ":2: the grade of 'x' is nan"),
    (FIRST + '{"query": "b", "relevant": {"x": 1e999}}', ":2: the grade of 'x' is inf"),
    (FIRST + '{"query": "b", "relevant": {"x": true}}', ":2: the grade of 'x' is True"),
    (FIRST + '{"query": "b", "relevant": {"x": ' + "9" * 400 + "}}", ":2: the grade of 'x' is 999"),
    (FIRST + '{"query": "b", "relevant": [["x"]]}', r":2: \['x'\] in `relevant` is not an id"),
    (FIRST + '{"query": "b", "relevant": ["x"], "grade": 2}', ":2: unknown key 'grade'"),
    (FIRST + "[" * 100_000, ":2: "),
]


@pytest.mark.parametrize(("text", "said"), BAD, ids=[said for _, said in BAD])
def test_a_damaged_file_is_told_with_its_line(tmp_path: Path, text: str | bytes, said: str) -> None:
    with pytest.raises(SpecError, match=said) as error:
        load(tmp_path, text)
    assert str(tmp_path / "queries.jsonl") in error.value.message
    assert "gates.relevance.queries" in error.value.message


def test_a_missing_file_and_a_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no such file"):
        load_queries(tmp_path / "nope.jsonl")
    with pytest.raises(SpecError, match="cannot be read: is a directory"):
        load_queries(tmp_path)
