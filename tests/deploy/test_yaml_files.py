"""YAML that every reader reads alike, made by a serializer."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from embedmill.deploy.yaml_files import write_folder, yaml_bytes
from embedmill.errors import SpecError

TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(TEXTS, VALUES, max_size=4))
def test_what_is_read_is_what_was_written(document: dict[str, object]) -> None:
    assert yaml.safe_load(yaml_bytes(document)) == document


@pytest.mark.parametrize(
    "text", ["1e3", "12", "on", "y", "No", "null", "0x1f", "1:30", "~", "", "- a", "a: b", "#"]
)
def test_texts_that_readers_take_for_something_else_are_quoted(text: str) -> None:
    assert yaml_bytes({"key": text}) == f'key: "{text}"\n'.encode()


def test_equal_values_are_written_again_and_not_by_reference() -> None:
    shared = {"a": ["b"]}
    assert b"*" not in yaml_bytes({"one": shared, "two": shared})


def test_files_are_written_again_and_nothing_strange_stays_among_them(tmp_path: Path) -> None:
    files = {"base/a.yaml": b"1", "b.yaml": b"2"}
    assert write_folder(tmp_path / "new", files) == ["b.yaml", "base/a.yaml"]
    assert write_folder(tmp_path / "new", files | {"b.yaml": b"3"}) == ["b.yaml", "base/a.yaml"]
    assert (tmp_path / "new" / "b.yaml").read_bytes() == b"3"
    (tmp_path / "new" / "old.yaml").write_text("applied by whoever lists the folder")
    with pytest.raises(SpecError, match=r"old\.yaml"):
        write_folder(tmp_path / "new", files)
