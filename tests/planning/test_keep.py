"""What a plan leaves in the store."""

from __future__ import annotations

import hashlib
from pathlib import Path

from embedmill.planning.keep import Kept
from embedmill.release.layout import Home
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
