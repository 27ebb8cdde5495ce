"""Every store there is; the suites run on each. A new one is added to STORES, with one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.stores import troubled

from embedmill.store import Store, open_store
from embedmill.store.faulty import FaultyStore
from embedmill.store.local import LocalStore

STORES: dict[str, Callable[[Path], Store]] = {
    "memory": lambda folder: open_store(f"memory://{folder.name}"),
    "local": lambda folder: LocalStore(folder / "store"),
    "faulty": lambda folder: FaultyStore(open_store(f"memory://{folder.name}")),
    "retrying": lambda folder: troubled(open_store(f"memory://{folder.name}")),
}


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return STORES[request.param](tmp_path)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EMBEDMILL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
