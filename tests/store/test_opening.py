"""From a URL of a spec to a store: a folder is named as servers that have only it can open it."""

from __future__ import annotations

from pathlib import Path

from embedmill.store import open_store
from embedmill.store.opening import is_shared


def test_a_folder_beside_the_spec_is_named_without_the_way_to_it(tmp_path: Path) -> None:
    """A container has the store's folder, and not that of the pipeline, through which `..` would lead."""
    store = open_store("../mill", relative_to=tmp_path / "shop")
    assert store.url == str(tmp_path / "mill")
    assert is_shared(store.url, [str(tmp_path / "mill")])


def test_a_folder_beside_a_spec_that_is_reached_by_a_link_is_where_the_link_leads(tmp_path: Path) -> None:
    (tmp_path / "far" / "shop").mkdir(parents=True)
    (tmp_path / "shop").symlink_to(tmp_path / "far" / "shop")
    open_store("../mill", relative_to=tmp_path / "shop").put("key", b"content")
    assert (tmp_path / "far" / "mill" / "key").read_bytes() == b"content"
