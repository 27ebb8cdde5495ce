"""Rows in 64 files by the leading bits of a digest: how partitions stay out of memory.

A few MiB are kept before files are begun, so that a small catalog needs none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from pathlib import Path

    from embedmill.types import Digests

BUCKETS = 64
HELD_BYTES = 4 << 20


class Spill:
    """Writes record batches by bucket, then reads whole buckets, in the order in which rows came.

    Buckets are contiguous digest ranges in ascending order, so that going through them in order, and
    sorting within each, sorts everything.
    """

    def __init__(self, folder: Path, schema: pa.Schema, *, held_bytes: int = HELD_BYTES) -> None:
        """Spill rows of this schema into files of the folder, which is made, beyond `held_bytes` of them."""
        folder.mkdir(parents=True)
        self.schema = schema
        self.rows = [0] * BUCKETS
        self.size_bytes = [0] * BUCKETS
        self._files = [folder / f"{bucket:02d}.arrow" for bucket in range(BUCKETS)]
        self._writers: list[pa.ipc.RecordBatchStreamWriter | None] = [None] * BUCKETS
        self._held: list[list[pa.RecordBatch]] = [[] for _ in range(BUCKETS)]
        self._held_bytes, self._most_held_bytes = 0, held_bytes

    def add(self, batch: pa.RecordBatch, keys: Digests) -> None:
        """Append rows; `keys` S16[N] choose each row's bucket."""
        buckets = np.frombuffer(keys, dtype=np.uint8).reshape(-1, 16)[:, 0] >> 2
        order = np.argsort(buckets, kind="stable")
        ordered = batch.take(pa.array(order))
        edges = np.searchsorted(buckets[order], np.arange(BUCKETS + 1))
        for bucket in np.unique(buckets):
            start, end = int(edges[bucket]), int(edges[bucket + 1])
            self._append(int(bucket), ordered.slice(start, end - start))
        if self._held_bytes > self._most_held_bytes:
            self._write_held()

    def filled(self) -> list[int]:
        """Buckets that have rows, ascending."""
        return [bucket for bucket in range(BUCKETS) if self.rows[bucket]]

    def read(self, bucket: int) -> pa.Table:
        """All rows of a bucket, mapped where types allow it. Ends writing to that bucket."""
        held = pa.Table.from_batches(self._held[bucket], schema=self.schema)
        writer, self._writers[bucket] = self._writers[bucket], None
        if writer is not None:
            writer.close()
        if not self._files[bucket].exists():
            return held
        with pa.memory_map(str(self._files[bucket])) as source:
            return pa.concat_tables([pa.ipc.open_stream(source).read_all(), held])

    def drop(self, bucket: int) -> None:
        """Free a bucket's memory and disk space."""
        self._held[bucket] = []
        self._files[bucket].unlink(missing_ok=True)

    def _append(self, bucket: int, rows: pa.RecordBatch) -> None:
        self._held[bucket].append(rows)
        self._held_bytes += rows.nbytes
        self.rows[bucket] += len(rows)
        self.size_bytes[bucket] += rows.nbytes

    def _write_held(self) -> None:
        for bucket in range(BUCKETS):
            held, self._held[bucket] = self._held[bucket], []
            for rows in held:
                self._writer(bucket).write_batch(rows)
        self._held_bytes = 0

    def _writer(self, bucket: int) -> pa.ipc.RecordBatchStreamWriter:
        writer = self._writers[bucket]
        if writer is None:
            writer = self._writers[bucket] = pa.ipc.new_stream(str(self._files[bucket]), self.schema)
        return writer
