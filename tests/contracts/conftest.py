"""Every store there is; the suites run on each. A new one is added to STORES, with one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.s3 import S3, as_identity
from tests.support.stores import troubled

from embedmill.store import Store, open_store
from embedmill.store.cloud import CloudStore
from embedmill.store.faulty import FaultyStore
from embedmill.store.local import LocalStore

STORES: dict[str, Callable[[pytest.FixtureRequest, Path], Store]] = {
    "memory": lambda _, folder: open_store(f"memory://{folder.name}"),
    "local": lambda _, folder: LocalStore(folder / "store"),
    "faulty": lambda _, folder: FaultyStore(open_store(f"memory://{folder.name}")),
    "retrying": lambda _, folder: troubled(open_store(f"memory://{folder.name}")),
    "seaweedfs": lambda request, _: on_s3(request, "seaweed"),
    "moto": lambda request, _: on_s3(request, "moto"),
}


def on_s3(request: pytest.FixtureRequest, server: str) -> Store:
    """A new store on the server of that fixture, with the environment that opens it."""
    found: S3 = request.getfixturevalue(server)
    as_identity(request.getfixturevalue("monkeypatch"), found.admin, found.endpoint)
    return CloudStore(found.new_url())


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    found: Store = STORES[request.param](request, tmp_path)
    return found


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EMBEDMILL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
