"""Labelled queries: `queries.jsonl`, one JSON object a line.

    {"query": "red apple", "relevant": ["sku-1", "sku-7"]}
    {"query": "pear", "relevant": {"sku-2": 3, "sku-4": 1}}

Ids are compared as text, so 7 and "7" are one. A grade says how relevant an item is: 1 where there is none,
0 for an item that was judged and is not.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from embedmill.catalog.base import shown
from embedmill.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MAX_GRADE = 1000
_SHAPE = 'a line is {"query": "red apple", "relevant": ["id", …]} or {…, "relevant": {"id": grade, …}}'


@dataclass(frozen=True)
class LabelledQuery:
    """What somebody looks for, and the grades (> 0) of the items that they want to find, by id."""

    text: str
    grades: Mapping[str, float]


def load_queries(file: Path) -> tuple[LabelledQuery, ...]:
    """Read a file of labelled queries.

    Raises:
        SpecError: It is missing, empty or damaged; says in which line.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError:
        raise SpecError(f"gates.relevance.queries: {file}: no such file", hint=_SHAPE) from None
    except (OSError, UnicodeDecodeError) as error:
        said = (error.strerror or str(error)).lower() if isinstance(error, OSError) else "not UTF-8 text"
        raise SpecError(f"gates.relevance.queries: {file}: cannot be read: {said}") from None
    found: list[LabelledQuery] = []
    lines_of: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            query = _parsed(line)
            if query.text in lines_of:
                raise ValueError(f"the query {shown(query.text)} is in line {lines_of[query.text]} already")
        except (ValueError, RecursionError) as error:
            raise SpecError(f"gates.relevance.queries: {file}:{number}: {error}", hint=_SHAPE) from None
        lines_of[query.text] = number
        found.append(query)
    if not found:
        raise SpecError(f"gates.relevance.queries: {file}: there is no query in it", hint=_SHAPE)
    return tuple(found)


def _parsed(line: str) -> LabelledQuery:
    """One line; ValueError says what is wrong with it."""
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from None
    if not isinstance(value, dict):
        raise ValueError(f"a JSON {type(value).__name__}, not an object")  # noqa: TRY004 - a line is wrong
    unknown = sorted(set(value) - {"query", "relevant"})
    if unknown:
        raise ValueError(f"unknown key {unknown[0]!r}")
    text, relevant = value.get("query"), value.get("relevant")
    if not isinstance(text, str) or not text.strip() or not _is_unicode(text):
        raise ValueError("`query` is not a text")
    grades = {id_: grade for id_, grade in _grades(relevant).items() if grade > 0}
    if not grades:
        raise ValueError("`relevant` names no item")
    return LabelledQuery(text, grades)


def _grades(relevant: Any) -> dict[str, float]:
    if isinstance(relevant, dict):
        for id_, grade in relevant.items():
            if not _is_number(grade) or not 0 <= grade <= MAX_GRADE:
                raise ValueError(
                    f"the grade of {shown(id_)} is {shown(grade)}, not a number from 0 to {MAX_GRADE}"
                )
        return {id_: float(grade) for id_, grade in relevant.items()}
    if isinstance(relevant, list):
        for id_ in relevant:
            if not (isinstance(id_, str) or _is_number(id_)):
                raise ValueError(f"{shown(id_)} in `relevant` is not an id")
        return {str(id_): 1.0 for id_ in relevant}
    raise ValueError("`relevant` is neither a list of ids nor an object of grades by id")


def _is_unicode(text: str) -> bool:
    """JSON can write halves of characters, which no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
