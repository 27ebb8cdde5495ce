"""Folders that a machine's cache has of a remote store's releases and candidates: they do not pile up."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from tests.support.mill import Mill, items

from embedmill.release.collect import Policy, collect
from embedmill.release.reader import open_release


@pytest.fixture
def remote(mill: Mill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mill:
    """A pipeline whose store has no files, with a cache of its own."""
    monkeypatch.setenv("EMBEDMILL_CACHE", str(tmp_path / "cache"))
    mill.settings["store"] = f"memory://{tmp_path.name}"
    return mill


def cached(mill: Mill, kind: str) -> set[str]:
    return {folder.name for folder in (mill.root / "cache" / kind).glob("*/*")}


def test_folders_of_retired_releases_go_when_another_release_is_opened(remote: Mill) -> None:
    names = [remote.run(items(count)).release for count in (8, 9, 10)]
    for name in names:
        open_release(remote.home, name)
    collect(remote.home, Policy(keep=2))
    assert cached(remote, "releases") == set(names)
    newest = remote.run(items(11)).release
    open_release(remote.home, newest)
    assert cached(remote, "releases") == {*names[1:], newest}


def test_the_folder_of_a_candidate_goes_once_it_is_published_or_long_forgotten(remote: Mill) -> None:
    waiting = remote.checked(items(8)).plan.run
    first = remote.run(items(9)).release
    assert cached(remote, "candidates") == {waiting, first}
    open_release(remote.home, first)
    assert cached(remote, "candidates") == {waiting}
    (folder,) = (remote.root / "cache" / "candidates").glob("*/*")
    os.utime(folder, (time.time() - 2 * 86_400,) * 2)
    open_release(remote.home, remote.run(items(10)).release)
    assert cached(remote, "candidates") == set()
