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


def make_old(mill: Mill, kind: str) -> None:
    """As if nobody had asked for them for two days."""
    for folder in (mill.root / "cache" / kind).glob("*/*"):
        os.utime(folder, (time.time() - 2 * 86_400,) * 2)


def test_folders_of_retired_releases_go_a_day_after_they_were_last_asked_for(remote: Mill) -> None:
    names = [remote.run(items(count)).release for count in (8, 9, 10)]
    for name in names:
        open_release(remote.home, name)
    collect(remote.home, Policy(keep=2))
    assert cached(remote, "releases") == set(names)
    fourth = remote.run(items(11)).release
    open_release(remote.home, fourth)
    assert cached(remote, "releases") == {*names, fourth}, "somebody may just be opening its files"
    make_old(remote, "releases")
    newest = remote.run(items(12)).release
    open_release(remote.home, newest)
    assert cached(remote, "releases") == {*names[1:], fourth, newest}


def test_the_folder_of_a_candidate_goes_a_day_after_it_was_last_asked_for(remote: Mill) -> None:
    waiting = remote.checked(items(8)).plan.run
    first = remote.run(items(9)).release
    open_release(remote.home, first)
    assert cached(remote, "candidates") == {waiting, first}
    make_old(remote, "candidates")
    last = remote.run(items(10)).release
    open_release(remote.home, last)
    assert cached(remote, "candidates") == {last}
