"""Vectors for a table, in one call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from embedmill.arrow import plain_table
from embedmill.errors import CatalogError
from embedmill.model.encoder import Encoder
from embedmill.model.inputs import check_columns, empty_rows
from embedmill.model.package import ModelPackage
from embedmill.types import Mask

CHUNK_ROWS = 8192
"""Rows that are tokenized and packed together."""


def embed(
    table: Any,
    model: str | Path | ModelPackage,
    *,
    encoder: str = "item",
    column: str = "vector",
    device: str = "cpu",
    threads: int = 1,
    batch_tokens: int = 512,
    batch_images: int = 16,
) -> pa.Table:
    """Append the vectors of a table's rows as a column, FixedSizeList<float32>[D].

    The vector is null where the row has nothing to embed (all its inputs are empty) or could not be
    embedded. The column's metadata has the encoder digest.

    Args:
        table: A pyarrow table or record batch, or anything with `__arrow_c_stream__`: polars, pandas, DuckDB.
        model: A package, or its folder.
        encoder: `item`, `query_text` or `query_image`.
        column: Name of the new column.
        device: See `Encoder.load`, as for the rest.
        threads: Threads a batch.
        batch_tokens: Rows x longest row of a batch with text.
        batch_images: Rows of a batch with images.

    Raises:
        CatalogError: A column that the encoder reads is absent or of a wrong type, or `column` is taken.
        ModelError: The package is damaged or does not fit.
    """
    package = model if isinstance(model, ModelPackage) else ModelPackage.open(model)
    found = pa.table(table)
    if column in found.column_names:
        raise CatalogError(f"the table already has a column {column!r}", hint="choose another with column=…")
    inputs = package.inputs(encoder)
    check_columns(inputs, found.column_names)
    kind = pa.list_(pa.float32(), package.spec.dimension)
    read = plain_table(found.select(list(inputs.fields)))
    batches = read.combine_chunks().to_batches(max_chunksize=CHUNK_ROWS)
    with Encoder.load(
        package, encoder, device=device, threads=threads, batch_tokens=batch_tokens, batch_images=batch_images
    ) as loaded:
        chunks = [_vectors(loaded, rows, kind) for rows in batches]
    field = pa.field(column, kind, metadata={"encoder_digest": package.encoder_digest(encoder)})
    return found.append_column(field, pa.chunked_array(chunks, kind))


def _vectors(encoder: Encoder, rows: pa.RecordBatch, kind: pa.DataType) -> pa.Array:
    absent: Mask = np.ones(rows.num_rows, np.bool_)
    for spec in encoder.package.inputs(encoder.name).root.values():
        absent &= empty_rows(spec.kind, rows)
    present = np.flatnonzero(~absent)
    encoded = encoder.encode(rows.take(pa.array(present)))
    absent[present[list(encoded.rejected)]] = True
    vectors = np.zeros((rows.num_rows, encoder.dimension), np.float32)
    vectors[present] = encoded.vectors_ND
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), type=kind, mask=pa.array(absent))
