"""From a URL of a spec to a store: a folder is named as servers that have only it can open it."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedmill.errors import StoreError
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


def test_links_that_mounts_may_be_named_by_stay_in_the_name(tmp_path: Path) -> None:
    """Servers that have /home, which is a link here, do not have /data/home."""
    (tmp_path / "data" / "me" / "far" / "shop").mkdir(parents=True)
    home = tmp_path / "home"
    home.symlink_to(tmp_path / "data")
    (home / "me" / "shop").symlink_to("far/../far/shop")
    store = open_store("../mill", relative_to=home / "me" / "shop")
    store.put("key", b"content")
    assert store.url == str(home / "me" / "far" / "mill")
    assert is_shared(store.url, [str(home)])
    assert (home / "me" / "shop" / ".." / "mill" / "key").read_bytes() == b"content"


def test_a_link_that_leads_to_itself_is_an_error_of_the_store(tmp_path: Path) -> None:
    (tmp_path / "shop").symlink_to("shop")
    store = open_store("../mill", relative_to=tmp_path / "shop")
    with pytest.raises(StoreError, match="too many levels of symbolic links"):
        store.put("key", b"content")
