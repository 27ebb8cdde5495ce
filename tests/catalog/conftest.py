"""A catalog in a folder of its own, and a short way to open it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.catalog.reading import OpenCatalog

from embedmill.catalog import CatalogReader
from embedmill.spec import CatalogSpec
from embedmill.store import Store


@pytest.fixture
def catalog(tmp_path: Path) -> OpenCatalog:
    """`catalog("items.csv", ["title"], where="…")`: a reader of a source below `tmp_path`; the id is `id`."""

    def opened(
        source: str, columns: Sequence[str] = (), *, store: Store | None = None, **spec: Any
    ) -> CatalogReader:
        read = CatalogSpec.model_validate({"source": source, "id": "id", **spec})
        return CatalogReader(read, root=tmp_path, store=store, columns=columns)

    return opened
