"""Frozen rows: what a plan keeps of an image reference, and how its bytes are fetched later."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from embedmill.types import worse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from embedmill.catalog.images import ImageSource
    from embedmill.types import Mask, Rejection

IDENTITY = ".identity"
"""Ending of the column that holds what an image reference led to when the plan was made."""


def with_images(
    rows: pa.RecordBatch,
    image_fields: Sequence[str],
    source: ImageSource,
    on_done: Callable[[int], None] = lambda _: None,
) -> tuple[pa.RecordBatch, dict[int, Rejection]]:
    """The rows with image columns as bytes, and why rows have none; identity columns are used up.

    `on_done` is called while images are waited for: the place where that can be stopped.
    """
    columns = {name: rows.column(name) for name in rows.schema.names if not name.endswith(IDENTITY)}
    rejected: dict[int, Rejection] = {}
    for name in image_fields:
        identities = rows.column(name + IDENTITY) if name + IDENTITY in rows.schema.names else None
        columns[name], lost = source.fetch(rows.column(name), identities, on_done, name=name)
        rejected = worse(rejected, lost)
    return pa.RecordBatch.from_pydict(columns), rejected


def content_digests(frozen: pa.RecordBatch, ready: pa.RecordBatch) -> pa.Table | None:
    """SHA-256 of what each image reference led to: a column binary[N] a field, null without an image.

    Takes the frozen rows and what `with_images` made of them; None where no image is a reference.
    """
    names = [name.removesuffix(IDENTITY) for name in frozen.schema.names if name.endswith(IDENTITY)]
    columns = {name: pa.array(map(_sha256, ready.column(name).to_pylist()), pa.binary()) for name in names}
    return pa.table(columns) if columns else None


def _sha256(content: bytes | None) -> bytes | None:
    return None if content is None else hashlib.sha256(content).digest()


def vouched_for(frozen: pa.RecordBatch) -> Mask:
    """bool[N]: rows whose images cannot have changed unseen; only versions of a catalog are just believed."""
    sure: Mask = np.ones(len(frozen), dtype=np.bool_)
    for name in frozen.schema.names:
        if name.endswith(IDENTITY):
            identities = frozen.column(name).to_pylist()
            sure &= np.array(
                [each is None or not each.startswith(b"v1") for each in identities], dtype=np.bool_
            )
    return sure
