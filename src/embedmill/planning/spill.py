"""Rows in 64 files by the leading bits of a digest: how partitions stay out of memory.

A few MiB are kept before files are begun, so that a small catalog needs none.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Executor, Future
    from pathlib import Path

    from embedmill.types import Digests

BUCKETS = 64
HELD_BYTES = 8 << 20
"""Written at once, in a piece for each bucket."""

LARGE_ROW_BYTES = 64 << 10
"""From this size on rows are written one by one, from where they lie: a gather costs more than the writes."""

MOST_RANGES = 1 << 16

Buckets = npt.NDArray[np.uint8]
Ranges = npt.NDArray[np.uint16]
_Held: TypeAlias = tuple[pa.RecordBatch, Buckets]


def buckets_of(keys: Digests) -> Buckets:
    """uint8[N]: the bucket of each digest."""
    return ranges_of(keys, BUCKETS).astype(np.uint8)


def ranges_of(keys: Digests, count: int) -> Ranges:
    """uint16[N]: the range of each digest, of so many: 2, 4, 8 and so on up to MOST_RANGES."""
    first = np.ascontiguousarray(keys).view(">u2")[:: keys.dtype.itemsize // 2]
    return first.astype(np.uint16) // np.uint16(MOST_RANGES // count)


class Spill:
    """Writes record batches by bucket, then reads whole buckets, in the order in which rows came.

    Buckets are contiguous digest ranges in ascending order, so that going through them in order, and
    sorting within each, sorts everything. Files are written by a thread of `writers`, while the next rows are
    made; whoever ends them waits for what is being written.
    """

    def __init__(
        self, folder: Path, schema: pa.Schema, writers: Executor, *, held_bytes: int = HELD_BYTES
    ) -> None:
        """Spill rows of this schema into files of the folder, which is made, beyond `held_bytes` of them."""
        folder.mkdir(parents=True)
        self.schema = schema
        self.rows = [0] * BUCKETS
        self._sizes = [0] * BUCKETS
        self._files = [folder / f"{bucket:02d}.arrow" for bucket in range(BUCKETS)]
        dictionaries = any(map(_has_dictionaries, schema.types))
        self._kind = _FileWithDictionaries if dictionaries else _BucketFile
        self._writers: list[_BucketFile | _FileWithDictionaries | None] = [None] * BUCKETS
        self._held: list[_Held] = []
        self.writers = writers
        self._writing: Future[None] | None = None
        self._sorted: list[pa.RecordBatch | None] = [None] * BUCKETS
        self._held_bytes, self._most_held_bytes = 0, held_bytes

    def add(self, batch: pa.RecordBatch, keys: Digests) -> None:
        """Append rows; `keys` S16[N] choose each row's bucket."""
        if self._held_bytes + batch.nbytes > self._most_held_bytes:
            self._write_held()
        buckets = buckets_of(keys)
        for bucket, count in enumerate(np.bincount(buckets, minlength=BUCKETS).tolist()):
            self.rows[bucket] += count
        self._held.append((batch, buckets))
        self._held_bytes += batch.nbytes
        if self._held_bytes > self._most_held_bytes:
            self._write_held()

    @property
    def size_bytes(self) -> list[int]:
        """Of the rows of each bucket. Ends writing."""
        self._finish()
        return self._sizes

    def filled(self) -> list[int]:
        """Buckets that have rows, ascending."""
        return [bucket for bucket in range(BUCKETS) if self.rows[bucket]]

    def read(self, bucket: int) -> pa.Table:
        """All rows of a bucket, mapped where types allow it. Ends writing."""
        self._finish()
        rows = self._sorted[bucket]
        held = pa.Table.from_batches([] if rows is None else [rows], schema=self.schema)
        writer, self._writers[bucket] = self._writers[bucket], None
        if writer is not None:
            writer.close()
        if not self._files[bucket].exists():
            return held
        with pa.memory_map(str(self._files[bucket])) as source:
            return pa.concat_tables([pa.ipc.open_stream(source).read_all(), held])

    def drop(self, bucket: int) -> None:
        """Free a bucket's memory and disk space."""
        self._sorted[bucket] = None
        self._files[bucket].unlink(missing_ok=True)

    def _finish(self) -> None:
        """Bring what is still held in order; it stays in memory."""
        self._wait()
        for bucket, rows in _gathered(self._held):
            self._sizes[bucket] += rows.nbytes
            self._sorted[bucket] = rows
        self._held = []

    def _write_held(self) -> None:
        """Begin to write what is held; what was begun before is waited for, so that memory stays bounded."""
        self._wait()
        if self._held:
            self._writing = self.writers.submit(self._write, self._held)
        self._held, self._held_bytes = [], 0

    def _wait(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def _write(self, held: list[_Held]) -> None:
        size, count = sum(batch.nbytes for batch, _ in held), sum(len(batch) for batch, _ in held)
        for bucket, rows in _one_by_one(held) if size >= LARGE_ROW_BYTES * count else _gathered(held):
            self._sizes[bucket] += rows.nbytes
            self._writer(bucket).write(rows)

    def _writer(self, bucket: int) -> _BucketFile | _FileWithDictionaries:
        writer = self._writers[bucket]
        if writer is None:
            writer = self._writers[bucket] = self._kind(self._files[bucket], self.schema)
        return writer


class _BucketFile:
    """A file that is being written: an Arrow stream.

    Batches have dozens of buffers, most of them small. So each is put together, and written at once.
    """

    def __init__(self, file: Path, schema: pa.Schema) -> None:
        self._file = file.open("wb")
        self._file.write(schema.serialize())

    def write(self, rows: pa.RecordBatch) -> None:
        self._file.write(rows.serialize())
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class _FileWithDictionaries:
    """The same of rows with dictionaries within lists and the like, which are written before the batches."""

    def __init__(self, file: Path, schema: pa.Schema) -> None:
        self._file = pa.OSFile(str(file), "wb")
        self._writer = pa.ipc.new_stream(self._file, schema)

    def write(self, rows: pa.RecordBatch) -> None:
        self._writer.write_batch(rows)

    def close(self) -> None:
        try:
            self._writer.close()
        finally:
            self._file.close()


def _has_dictionaries(kind: pa.DataType) -> bool:
    """Whether its values, or some that are within them, are of dictionaries."""
    if isinstance(kind, pa.BaseExtensionType):
        return _has_dictionaries(kind.storage_type)
    within = (kind.field(number).type for number in range(kind.num_fields))
    return pa.types.is_dictionary(kind) or any(map(_has_dictionaries, within))


def _gathered(held: list[_Held]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The rows of each bucket: one gather for all of them, a slice for each. Nothing is held any more."""
    if not held:
        return
    rows = held[0][0] if len(held) == 1 else pa.concat_batches([batch for batch, _ in held])
    buckets = np.concatenate([buckets for _, buckets in held])
    held.clear()
    order = np.argsort(buckets, kind="stable")
    rows = rows.take(pa.array(order))
    edges = np.searchsorted(buckets[order], np.arange(BUCKETS + 1)).tolist()
    for bucket, (start, end) in enumerate(pairwise(edges)):
        if start < end:
            yield bucket, rows.slice(start, end - start)


def _one_by_one(held: list[_Held]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Each row with its bucket, where it lies, in the order in which they came."""
    for batch, buckets in held:
        for row, bucket in enumerate(buckets.tolist()):
            yield bucket, batch.slice(row, 1)
