"""What a right search result is: the rules of queries.yaml, applied to hits."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from emoji_items import join_key


@dataclass(frozen=True, slots=True)
class Query:
    """A search, and what is right: any of these base ids, subcategories, or whole words in the name."""

    text: str
    ids: frozenset[str] = frozenset()
    subcategories: frozenset[str] = frozenset()
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """A hit, as far as the rules look at it."""

    base: str
    name: str
    subcategory: str


def read_queries(file: Path) -> list[Query]:
    """The queries of a YAML file: a list of {query, ids, subcategories, words}."""
    return [_query(entry) for entry in yaml.safe_load(file.read_text(encoding="utf-8"))]


def _query(entry: Mapping[str, Any]) -> Query:
    ids = frozenset(join_key(str(name)) for name in entry.get("ids", ()))
    return Query(
        entry["query"], ids, frozenset(entry.get("subcategories", ())), tuple(entry.get("words", ()))
    )


def is_right(query: Query, found: Found) -> bool:
    """Whether a hit answers the query."""
    words = " ".join(re.findall(r"[a-z0-9]+", found.name.casefold()))
    return (
        join_key(found.base) in query.ids
        or found.subcategory in query.subcategories
        or any(f" {word} " in f" {words} " for word in query.words)
    )


def collapse(hits: Iterable[Found], count: int) -> Sequence[Found]:
    """The first `count` hits with different bases: skin-tone variants count as one item."""
    by_base: dict[str, Found] = {}
    for hit in hits:
        by_base.setdefault(hit.base, hit)
        if len(by_base) == count:
            break
    return tuple(by_base.values())
