"""Items of the catalog as it is now whose vectors a release has: shortest, longest, strangest and any."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embedmill.catalog import CatalogReader, ImageSource, fingerprints, id_digests
from embedmill.catalog.frozen import with_images
from embedmill.errors import ReleaseIncompatible
from embedmill.gates.parity import Known
from embedmill.model import ModelPackage, canonical_columns
from embedmill.model.columns import file_column, is_binary, text_column

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from embedmill.release.reader import Release
    from embedmill.spec import EncoderInputs, PipelineSpec
    from embedmill.store import Store
    from embedmill.types import Rows

PRINTABLE = "[ -~]"
"""A regular expression for one plain character: space to tilde."""
SPARE = 4
"""Times as many rows are chosen as are wanted: some have changed since, and some are the same input."""


def source_sample(release: Release, spec: PipelineSpec, root: Path, store: Store, rows: int) -> Known:
    """At most `rows` items with what they are now, and the vectors that the release has for just that.

    A quarter each are the shortest, the longest, those with the most characters beyond ASCII or of control,
    and any. Reads the catalog once; of images only those that were chosen.

    Raises:
        ReleaseIncompatible: No item is as it was when the release was made.
        CatalogError: The catalog cannot be read.
    """
    inputs = ModelPackage.open(release.model_folder).inputs("item")
    version = spec.catalog.image_version if inputs.image_fields else None
    columns = [*inputs.fields, *([version] if version else [])]
    reader = CatalogReader(spec.catalog, root=root, store=store, columns=columns)
    chosen = _chosen(reader, spec.catalog.id, inputs.fields, -(-SPARE * rows // 4))
    images = ImageSource(spec.catalog, root=root, store=store)
    located = _located(release, inputs, chosen, images, version)
    same = np.flatnonzero(located >= 0)[:rows]
    ready, gone = with_images(chosen.take(pa.array(same)), inputs.image_fields, images)
    kept = np.setdiff1d(np.arange(len(same)), list(gone)).astype(np.int64)
    if not len(kept):
        raise ReleaseIncompatible(
            f"release {release.name}: none of {len(chosen)} items of the catalog is as it was",
            hint="`embedmill run` makes a release of the catalog as it is now",
        )
    vectors = release.table.vectors(located[same[kept]])
    return Known(ready.take(pa.array(kept)).select(list(inputs.fields)), vectors)


def _located(
    release: Release,
    inputs: EncoderInputs,
    rows: pa.RecordBatch,
    images: ImageSource,
    version: str | None,
) -> Rows:
    """int64[N]: the vector of what each row is now; -1 where there is none, or it is that of a row before."""
    columns = {name: rows.column(name) for name in rows.schema.names}
    lost: set[int] = set()
    for name in inputs.image_fields:
        columns[name], rejected = images.identity(
            rows.column(name), rows.column(version) if version else None, name=name
        )
        lost |= set(rejected)
    canonical, empty = canonical_columns(inputs, pa.record_batch(columns))
    prints = fingerprints(canonical)
    located = release.table.locate(prints)
    _, first = np.unique(prints, return_index=True)
    again = np.setdiff1d(np.arange(len(rows)), first)
    located[empty], located[list(lost)], located[again] = -1, -1, -1
    return located


def _chosen(reader: CatalogReader, id_column: str, fields: tuple[str, ...], quota: int) -> pa.RecordBatch:
    """By each way to choose the `quota` first rows of the whole catalog, in turns; some are there twice."""
    kept: list[list[tuple[pa.RecordBatch, npt.NDArray[np.float64]]]] = [[], [], [], []]
    for batch in reader.batches():
        rows = batch.rows.filter(pc.is_valid(batch.rows.column(id_column)))
        if not len(rows):
            continue
        lengths, strange = _measures(rows, fields)
        any_ = np.frombuffer(id_digests(rows.column(id_column)).tobytes(), ">u8")[::2].astype(np.float64)
        for place, order in enumerate((lengths, -lengths, -strange, any_)):
            kept[place] = [_first([*kept[place], (rows, order)], quota)]
    parts = [rows for ways in kept for rows, _ in ways]
    ranks = np.concatenate([np.zeros(0, np.int64), *(np.arange(len(part)) for part in parts)])
    rows = pa.concat_batches(parts) if parts else pa.RecordBatch.from_pylist([], reader.schema)
    return rows.take(pa.array(np.argsort(ranks, kind="stable")))


def _first(
    parts: list[tuple[pa.RecordBatch, npt.NDArray[np.float64]]], quota: int
) -> tuple[pa.RecordBatch, npt.NDArray[np.float64]]:
    """The `quota` rows that come first by their number."""
    order = np.concatenate([numbers for _, numbers in parts])
    best = np.argsort(order, kind="stable")[:quota]
    table = pa.Table.from_batches([rows for rows, _ in parts]).take(pa.array(best)).combine_chunks()
    return table.to_batches()[0], order[best]


def _measures(
    rows: pa.RecordBatch, fields: tuple[str, ...]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """float64[N] each: bytes of a row's fields, and how many of them are no printable ASCII."""
    lengths, strange = np.zeros(len(rows)), np.zeros(len(rows))
    for name in fields:
        kind = rows.schema.field(name).type
        if is_binary(kind):
            lengths += pc.fill_null(pc.binary_length(file_column(rows, name)), 0).to_numpy()
        elif not pa.types.is_nested(kind):
            text = text_column(rows, name)
            size = pc.binary_length(text).to_numpy()
            lengths += size
            strange += size - pc.count_substring_regex(text, PRINTABLE).to_numpy()
    return lengths, strange
