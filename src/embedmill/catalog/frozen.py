"""Frozen rows: what a plan keeps of an image reference, and how its bytes are fetched later."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from embedmill.catalog.images import ImageSource
    from embedmill.types import Rejection

IDENTITY = ".identity"
"""Ending of the column that holds what an image reference led to when the plan was made."""


def with_images(
    rows: pa.RecordBatch,
    image_fields: Sequence[str],
    source: ImageSource,
    on_done: Callable[[int], None] = lambda _: None,
) -> tuple[pa.RecordBatch, dict[int, Rejection]]:
    """The rows with image columns as bytes, and why rows have none; identity columns are used up.

    `on_done` is called while URLs are waited for: the place where that can be stopped.
    """
    columns = {name: rows.column(name) for name in rows.schema.names if not name.endswith(IDENTITY)}
    rejected: dict[int, Rejection] = {}
    for name in image_fields:
        identities = rows.column(name + IDENTITY) if name + IDENTITY in rows.schema.names else None
        columns[name], lost = source.fetch(rows.column(name), identities, on_done)
        rejected |= lost
    return pa.RecordBatch.from_pydict(columns), rejected
