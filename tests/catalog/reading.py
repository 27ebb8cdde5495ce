"""Whole catalogs as Python values, for tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import pyarrow as pa

from embedmill.catalog import CatalogReader, UnreadableRow

OpenCatalog: TypeAlias = Callable[..., CatalogReader]


def rows(reader: CatalogReader) -> list[dict[str, Any]]:
    """Every row that could be read, in order."""
    found: list[dict[str, Any]] = table(reader).to_pylist()
    return found


def table(reader: CatalogReader) -> pa.Table:
    return pa.Table.from_batches([batch.rows for batch in reader.batches()], reader.schema)


def unreadable(reader: CatalogReader) -> list[UnreadableRow]:
    return [row for batch in reader.batches() for row in batch.unreadable]


def excluded(reader: CatalogReader) -> int:
    return sum(batch.excluded for batch in reader.batches())
