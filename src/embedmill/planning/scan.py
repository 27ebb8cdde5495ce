"""First pass over the catalog: read once, fingerprint, and spill rows by id and by fingerprint.

Only rows whose vector is not there yet spill their inputs; all others leave a few bytes and their display
columns. Memory is bounded by a few batches, whatever the catalog's size.
"""

from __future__ import annotations

import contextlib
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embedmill.catalog import CatalogBatch, CatalogReader, ImageSource, fingerprint_messages, id_messages
from embedmill.catalog.base import BATCH_BYTES
from embedmill.catalog.frozen import IDENTITY
from embedmill.digest import digests_to_arrow
from embedmill.hashing import Hasher
from embedmill.model.inputs import canonical_columns
from embedmill.planning.ahead import read_ahead
from embedmill.planning.estimate import row_costs
from embedmill.planning.spill import Spill
from embedmill.types import Reason, Rejection, worse

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping
    from concurrent.futures import Executor
    from pathlib import Path

    from embedmill.release.quarantine import QuarantineWriter
    from embedmill.release.refusals import Refusals
    from embedmill.spec import EncoderInputs
    from embedmill.types import Digests, Mask, Rows

SPILLS = 2
"""Of a scan; they are written beside each other."""
SCANNED_ROWS = 1 << 16
"""At once, of at most BATCH_BYTES: fewer make small requests to hashing processes, more fill fresh pages."""


@dataclass
class Scan:
    """What the first pass found; `total` counts every row read, unreadable ones too.

    `reuses`: whether any row has a vector already.
    """

    by_id: Spill
    by_fingerprint: Spill
    total: int = 0
    rows: int = 0
    excluded: int = 0
    reuses: bool = False


@dataclass(frozen=True)
class _Seen:
    """Rows whose digests are being made, and what is known of them: `costs` int64[N]."""

    rows: pa.RecordBatch
    numbers: Rows
    identities: dict[str, pa.Array]
    rejected: dict[int, Rejection]
    costs: Rows
    empty: Mask


@dataclass(frozen=True)
class Scanner:
    """Turns catalog batches into spilled rows."""

    reader: CatalogReader
    images: ImageSource
    inputs: EncoderInputs
    id_column: str
    display: tuple[str, ...]
    version_column: str | None
    exists: Callable[[Digests], Mask]
    refusals: Refusals
    quarantine: QuarantineWriter
    hasher: Hasher

    def run(self, folder: Path, on_rows: Callable[[int], None], writers: Executor) -> Scan:
        """Read the whole catalog; `on_rows` hears of rows as they are done, `writers` write spilled ones."""
        scan = Scan(
            by_id=Spill(folder / "by-id", self._id_schema(), writers),
            by_fingerprint=Spill(folder / "by-fingerprint", self._work_schema(), writers),
        )
        begun: deque[Callable[[], None]] = deque()
        with contextlib.closing(read_ahead(_together(self.reader.batches()))) as batches:
            for batch in batches:
                begun.append(self._begun(scan, batch, _Told(len(batch.rows), on_rows)))
                while len(begun) > self.hasher.ahead:
                    begun.popleft()()
        while begun:
            begun.popleft()()
        return scan

    def _begun(self, scan: Scan, batch: CatalogBatch, told: _Told) -> Callable[[], None]:
        """Begin to digest a batch; what is returned spills it, once its digests are made."""
        self._reject_unreadable(batch)
        scan.excluded += batch.excluded
        scan.total += len(batch.rows) + len(batch.unreadable)
        numbers = np.arange(scan.rows, scan.rows + len(batch.rows), dtype=np.int64)
        scan.rows += len(batch.rows)
        rows, numbers = self._reject_null_ids(batch.rows, numbers)
        if not len(rows):
            return told.finish
        identities, rejected = self._identities(rows, told)
        columns, empty = canonical_columns(self.inputs, _replaced(rows, identities))
        prints = self.hasher.submit(*fingerprint_messages(columns))
        ids = self.hasher.submit(*id_messages(rows.column(self.id_column)))
        seen = _Seen(rows, numbers, identities, rejected, row_costs(self.inputs, columns), empty)

        def finish() -> None:
            self._spill(scan, seen, prints(), ids())
            told.finish()

        return finish

    def _spill(self, scan: Scan, seen: _Seen, prints: Digests, ids: Digests) -> None:
        rows, numbers, empty = seen.rows, seen.numbers, seen.empty
        there = self.exists(prints)
        scan.reuses |= bool(there.any())
        refused = {row: why for row, why in self.refusals.of(prints).items() if not there[row]}
        rejected = refused | seen.rejected
        lost = np.zeros(len(rows), dtype=np.bool_)
        lost[list(rejected)] = True
        own = [digests_to_arrow(ids), pa.array(numbers), digests_to_arrow(prints), pa.array(empty & ~lost)]
        own += self._whys(rejected, len(rows))
        item = [*own, rows.column(self.id_column), *(rows.column(name) for name in self.display)]
        scan.by_id.add(pa.RecordBatch.from_arrays(item, schema=scan.by_id.schema), ids)
        work = ~empty & ~lost & ~there
        if work.any():
            self._spill_work(scan.by_fingerprint, seen, prints, work)

    def _whys(self, rejected: Mapping[int, Rejection], count: int) -> list[pa.Array]:
        """Columns `_reason`, `_detail` and `_decoders` of so many rows; null where nothing is wrong."""
        if not rejected:
            return [pa.nulls(count, pa.string())] * 3
        why = [rejected.get(row) for row in range(count)]
        return [
            pa.array([each and str(each.reason) for each in why], pa.string()),
            pa.array([each and each.detail for each in why], pa.string()),
            pa.array(
                [self.refusals.decoders if each and each.lasting else None for each in why], pa.string()
            ),
        ]

    def _identities(
        self, rows: pa.RecordBatch, told: _Told
    ) -> tuple[dict[str, pa.Array], dict[int, Rejection]]:
        """What identifies the images of each image column, and the rows of which one cannot be had."""
        known = self.version_column is not None and self.version_column in rows.schema.names
        versions = rows.column(self.version_column) if known else None  # not read for a model without images
        identities: dict[str, pa.Array] = {}
        rejected: dict[int, Rejection] = {}
        for name in self.inputs.image_fields:
            identities[name], lost = self.images.identity(rows.column(name), versions, told.at, name=name)
            rejected = worse(rejected, lost)
        return identities, rejected

    def _spill_work(self, spill: Spill, seen: _Seen, prints: Digests, work: Mask) -> None:
        own = [digests_to_arrow(prints), pa.array(seen.numbers), pa.array(seen.costs)]
        fields = [seen.rows.column(name) for name in self.inputs.fields]
        arrays = [*own, *fields, *(seen.identities[name] for name in self._references())]
        batch = pa.RecordBatch.from_arrays(arrays, schema=spill.schema)
        if not work.all():  # what is large is not copied without need
            batch, prints = batch.filter(pa.array(work)), prints[work]
        spill.add(batch, prints)

    def _reject_unreadable(self, batch: CatalogBatch) -> None:
        self.quarantine.add(
            Reason.UNREADABLE_ROW,
            ids=[None] * len(batch.unreadable),
            rows=[None] * len(batch.unreadable),
            sources=[
                row.source if row.line is None else f"{row.source}:{row.line}" for row in batch.unreadable
            ],
            details=[row.detail for row in batch.unreadable],
        )

    def _reject_null_ids(self, rows: pa.RecordBatch, numbers: Rows) -> tuple[pa.RecordBatch, Rows]:
        null = pc.is_null(rows.column(self.id_column), nan_is_null=True)
        mask = null.to_numpy(zero_copy_only=False)
        lost = numbers[mask].tolist()
        self.quarantine.add(
            Reason.NULL_ID,
            ids=[None] * len(lost),
            rows=lost,
            details=[f"column {self.id_column!r} is null"] * len(lost),
        )
        return (rows.filter(pc.invert(null)), numbers[~mask]) if lost else (rows, numbers)

    def _references(self) -> list[str]:
        """Image columns with references, whose targets may change before a worker reads them."""
        schema = self.reader.schema
        return [name for name in self.inputs.image_fields if not pa.types.is_binary(schema.field(name).type)]

    def _id_schema(self) -> pa.Schema:
        schema = self.reader.schema
        own = [
            ("_id_digest", pa.binary(16)),
            ("_row", pa.int64()),
            ("_fingerprint", pa.binary(16)),
            ("_empty", pa.bool_()),
            ("_reason", pa.string()),
            ("_detail", pa.string()),
            ("_decoders", pa.string()),
        ]
        shown = [pa.field(f"d:{name}", schema.field(name).type) for name in self.display]
        return pa.schema([*own, pa.field("id", schema.field(self.id_column).type), *shown])

    def _work_schema(self) -> pa.Schema:
        schema = self.reader.schema
        own = [("_fingerprint", pa.binary(16)), ("_row", pa.int64()), ("_cost", pa.int64())]
        fields = [pa.field(name, schema.field(name).type) for name in self.inputs.fields]
        return pa.schema([*own, *fields, *((name + IDENTITY, pa.binary()) for name in self._references())])


def _together(batches: Iterable[CatalogBatch]) -> Generator[CatalogBatch, None, None]:
    """The batches, small ones put together: what is done once a batch is done seldom."""
    held: list[CatalogBatch] = []
    rows = size = 0
    for batch in batches:
        more = batch.rows.nbytes
        if held and (rows + len(batch.rows) > SCANNED_ROWS or size + more > BATCH_BYTES):
            yield _joined(held)
            held, rows, size = [], 0, 0
        held, rows, size = [*held, batch], rows + len(batch.rows), size + more
    if held:
        yield _joined(held)


def _joined(batches: list[CatalogBatch]) -> CatalogBatch:
    if len(batches) == 1:  # of images, which are not copied
        return batches[0]
    unreadable = tuple(row for batch in batches for row in batch.unreadable)
    excluded = sum(batch.excluded for batch in batches)
    return CatalogBatch(pa.concat_batches([batch.rows for batch in batches]), unreadable, excluded)


class _Told:
    """Tells of the rows of a batch, some while their images are waited for, each once."""

    def __init__(self, rows: int, on_rows: Callable[[int], None]) -> None:
        self._left, self._told, self._on_rows = rows, 0, on_rows

    def at(self, done: int) -> None:
        """So many images of one column are done; columns after the first are not told of."""
        more = min(done - self._told, self._left)
        if more > 0:
            self._told, self._left = self._told + more, self._left - more
            self._on_rows(more)

    def finish(self) -> None:
        self._on_rows(self._left)


def _replaced(rows: pa.RecordBatch, identities: dict[str, pa.Array]) -> pa.RecordBatch:
    """The rows, with these columns put in the place of those of their names."""
    names = rows.schema.names
    return pa.RecordBatch.from_arrays(
        [identities.get(name, rows.column(name)) for name in names], names=names
    )
