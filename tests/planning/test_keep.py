"""What a plan leaves in the store."""

from __future__ import annotations

import hashlib
from concurrent.futures import CancelledError
from pathlib import Path
from threading import Event

import pytest
from tests.models import tiny_text_package
from tests.support.mill import Mill, items

from embedmill.model import ModelPackage
from embedmill.planning.keep import Kept
from embedmill.release.layout import Home
from embedmill.store import Body
from embedmill.store.local import LocalStore


def test_a_local_store_links_the_item_files_that_were_planned(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    home = Home(store, "shop")
    files = [tmp_path / "part-00000.parquet", tmp_path / "part-00001.parquet"]
    for number, file in enumerate(files):
        file.write_bytes(b"items" * (number + 1))
    entries = Kept(home, "r1").item_parts([(file, rows) for rows, file in enumerate(files)])
    for rows, (entry, file) in enumerate(zip(entries, files, strict=True)):
        assert store.path(home.key(entry.path)).samefile(file)
        assert (entry.rows, entry.sha256) == (rows, hashlib.sha256(file.read_bytes()).hexdigest())


class InterruptedAfterOne(LocalStore):
    """While its first file of a model is written, nobody waits for the rest any more."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.given_up = Event()

    def put_if_absent(self, key: str, body: Body) -> str:
        self.given_up.set()
        return super().put_if_absent(key, body)


def test_the_rest_of_a_model_is_not_copied_once_nobody_waits_for_it(tmp_path: Path) -> None:
    package = ModelPackage.open(tiny_text_package(tmp_path / "model"))
    assert len(package.files()) > 1
    store = InterruptedAfterOne(tmp_path / "store")
    with pytest.raises(CancelledError):
        Kept(Home(store, "shop"), "r1").shards_and_model([], package, None, store.given_up)
    assert len([info for info in store.list("") if "/model/" in info.key]) == 1


def test_nothing_of_the_live_releases_model_is_copied_once_nobody_waits_for_it(mill: Mill) -> None:
    mill.run(items(4))
    given_up, kept = Event(), Kept(mill.home, "r1")
    given_up.set()
    with pytest.raises(CancelledError):
        kept.model(mill.open().package, mill.live(), given_up)
    assert list(mill.home.store.list(mill.home.release_key("r1"))) == []
