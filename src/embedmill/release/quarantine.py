"""The table of items that could not be embedded, each with its reason; written as it is found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from embedmill.types import DIGEST_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

    from embedmill.types import Reason

QUARANTINE_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("row", pa.int64()),
        pa.field("source", pa.string()),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
        pa.field("fingerprint", pa.binary(DIGEST_BYTES)),
        pa.field("decoders", pa.string()),
    ]
)
"""`id` as text (null where it is unknown), `row` counted through the whole catalog from 0.

`fingerprint` is what was refused, null where a row has none. `decoders`: those that would refuse the image
again; null where another try may help, or it was not for its image.
"""


class QuarantineWriter:
    """A Parquet file of quarantined items; `rows` counts them."""

    def __init__(self, file: Path) -> None:
        """Start the file."""
        self.rows = 0
        self._writer = pq.ParquetWriter(file, QUARANTINE_SCHEMA)

    def __enter__(self) -> QuarantineWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def add(
        self,
        reason: Reason,
        *,
        ids: Sequence[Any],
        rows: Sequence[int | None],
        sources: Sequence[str] | None = None,
        details: Sequence[str],
        fingerprints: Sequence[bytes | None] | None = None,
        decoders: str | None = None,
    ) -> None:
        """Append items of one reason; all sequences have one value an item.

        `decoders` refused them all, and would again; `fingerprints` says what was refused.
        """
        if not ids:
            return
        columns = [
            [None if value is None else str(value) for value in ids],
            list(rows),
            list(sources) if sources is not None else [None] * len(ids),
            [str(reason)] * len(ids),
            list(details),
            list(fingerprints) if fingerprints is not None else [None] * len(ids),
            [decoders] * len(ids),
        ]
        self._writer.write_table(pa.table(columns, schema=QUARANTINE_SCHEMA))
        self.rows += len(ids)

    def copy(self, table: pa.Table) -> None:
        """Append rows that another file of this kind holds."""
        if len(table):
            self._writer.write_table(_whole(table).cast(QUARANTINE_SCHEMA))
            self.rows += len(table)


def _whole(table: pa.Table) -> pa.Table:
    """The table with the columns that it lacks, since an older version wrote it."""
    for column in QUARANTINE_SCHEMA:
        if column.name not in table.column_names:
            table = table.append_column(column, pa.nulls(len(table), column.type))
    return table
