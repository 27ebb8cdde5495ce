"""Rows in 64 files by the leading bits of a digest: how partitions stay out of memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from pathlib import Path

    from embedmill.types import Digests

BUCKETS = 64


class Spill:
    """Writes record batches by bucket, then reads whole buckets, in the order in which rows came.

    Buckets are contiguous digest ranges in ascending order, so that going through them in order, and
    sorting within each, sorts everything.
    """

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        """Spill rows of this schema into files of the folder, which is made."""
        folder.mkdir(parents=True)
        self.schema = schema
        self.rows = [0] * BUCKETS
        self.size_bytes = [0] * BUCKETS
        self._files = [folder / f"{bucket:02d}.arrow" for bucket in range(BUCKETS)]
        self._writers: list[pa.ipc.RecordBatchStreamWriter | None] = [None] * BUCKETS

    def add(self, batch: pa.RecordBatch, keys: Digests) -> None:
        """Append rows; `keys` S16[N] choose each row's bucket."""
        buckets = np.frombuffer(keys, dtype=np.uint8).reshape(-1, 16)[:, 0] >> 2
        order = np.argsort(buckets, kind="stable")
        ordered = batch.take(pa.array(order))
        edges = np.searchsorted(buckets[order], np.arange(BUCKETS + 1))
        for bucket in np.unique(buckets):
            start, end = int(edges[bucket]), int(edges[bucket + 1])
            self._append(int(bucket), ordered.slice(start, end - start))

    def read(self, bucket: int) -> pa.Table:
        """All rows of a bucket, mapped where types allow it. Ends writing to that bucket."""
        writer, self._writers[bucket] = self._writers[bucket], None
        if writer is not None:
            writer.close()
        if not self.rows[bucket]:
            return self.schema.empty_table()
        with pa.memory_map(str(self._files[bucket])) as source:
            return pa.ipc.open_stream(source).read_all()

    def drop(self, bucket: int) -> None:
        """Free a bucket's disk space."""
        self._files[bucket].unlink(missing_ok=True)

    def _append(self, bucket: int, rows: pa.RecordBatch) -> None:
        writer = self._writers[bucket]
        if writer is None:
            writer = self._writers[bucket] = pa.ipc.new_stream(str(self._files[bucket]), self.schema)
        writer.write_batch(rows)
        self.rows[bucket] += len(rows)
        self.size_bytes[bucket] += rows.nbytes
