"""Every example of every page is run, in order, in a folder like its reader's."""

from __future__ import annotations

import re
from contextlib import nullcontext
from importlib.util import find_spec

import pytest
from tests.docs.pages import DOCS, Block, Reader, asks_a_server, examples, text_of, with_server

PAGES = sorted(path.name for path in DOCS.glob("*.md"))
WITH_EXAMPLES = [page for page in PAGES if examples(page)]
LIBRARIES = {
    "import pandas as pd": "pandas",
    "import polars as pl": "polars",
    "import duckdb": "duckdb",
    "from openai import OpenAI": "openai",
    "import tritonclient.http as triton": "tritonclient",
}
"""First words of a block → what it needs, which embedmill does not and the core environment does not have."""
NOT_RUN: dict[str, str] = {
    words: f"{library} is not installed" for words, library in LIBRARIES.items() if find_spec(library) is None
}
"""First words of a block → why it is not run."""


@pytest.mark.parametrize("page", WITH_EXAMPLES)
def test_every_example_of_the_page_works_as_written(page: str, reader: Reader) -> None:
    with with_server(reader) if asks_a_server(page) else nullcontext(reader) as following:
        for block in examples(page):
            if not block.first.startswith(tuple(NOT_RUN)):
                following.follow(block)


def test_only_examples_that_exist_are_left_out() -> None:
    firsts = [block.first for page in PAGES for block in examples(page)]
    assert [words for words in NOT_RUN if sum(first.startswith(words) for first in firsts) != 1] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_link_of_the_page_leads_somewhere(page: str) -> None:
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", text_of(page)):
        file = DOCS / (target or page)
        assert file.exists(), f"{page} links to {target}, which is not there"
        assert not anchor or anchor in anchors(file.read_text()), f"{page}: no heading for #{anchor}"


def anchors(text: str) -> set[str]:
    """Headings as GitHub links to them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_index_has_every_page() -> None:
    index = text_of("README.md")
    assert [page for page in PAGES if page != "README.md" and f"]({page}" not in index] == []


def example(text: str) -> Block:
    return Block("a page", "console", text)


def test_an_example_that_fails_is_noticed(reader: Reader) -> None:
    with pytest.raises(AssertionError, match="no such file"):
        reader.follow(example("$ embedmill plan nope.yaml\n"))


def test_output_that_is_not_what_comes_out_is_noticed(reader: Reader) -> None:
    reader.follow(example("$ echo one; echo two three\none\n… three\n"))
    with pytest.raises(AssertionError, match="and not"):
        reader.follow(example("$ echo one; echo two\none\n"))
