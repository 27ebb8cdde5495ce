"""Frozen shards as files: what lies together is put together, written, and hashed while it is in memory."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Self

import pyarrow as pa

from embedmill.cores import cores
from embedmill.planning.gather import put_together
from embedmill.store.hashing import file_sha256

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future
    from pathlib import Path

MOST_OF_A_SHARD = 3
"""Times as many bytes as shards are cut at, unless one row alone has more. So the texts of a column stay far
below the 2 GiB that offsets of 32 bits allow; those of a row alone, which Arrow holds already, reach them."""

LARGE_SHARD_BYTES = 2 << 20
"""From this size on shards are written in threads; to hand over a smaller one costs more than that gains."""

SHARDS_AHEAD = 2
"""So many of the largest size are written at once, at most; of smaller ones, one for each core."""


@dataclass(frozen=True)
class FrozenShard:
    """Rows of one shard: `_fingerprint` ascending and distinct, then the encoder's fields.

    `sha256`: of the file, in hex, if it was hashed when it was written.
    """

    name: str
    file: Path
    rows: int
    cost: int
    sha256: str | None = None

    def first_rows(self, count: int) -> pa.RecordBatch:
        """So many at most, from however many pieces; in order of fingerprints they are random."""
        with pa.memory_map(str(self.file)) as source:
            rows = pa.ipc.open_file(source).read_all().slice(0, count).combine_chunks()
        return rows.to_batches()[0]


class Piece(NamedTuple):
    """Rows of one shard, or some of them, and the bytes that they take.

    `apart`: they are not copied yet; each is a slice where it lies.
    """

    rows: pa.Table
    size_bytes: int
    shard: int
    apart: bool = False


class ShardFiles:
    """Puts pieces together, and starts a new shard with a piece of another one, or where bytes are many.

    The end of its `with` block waits for what is being written; after an error nothing more is begun.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        """Files of the folder, which exists."""
        self._folder, self._most_bytes = folder, most_bytes
        self._pending: list[Piece] = []
        self._threads = ThreadPoolExecutor(cores(), "ahead")
        self._writing: deque[tuple[Future[FrozenShard], int]] = deque()
        self._shards: list[Callable[[], FrozenShard]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._threads.shutdown(cancel_futures=True)

    def add(self, piece: Piece) -> None:
        """Rows that follow those added before."""
        size_bytes = self._pending_bytes
        full = size_bytes >= self._most_bytes
        too_much = size_bytes + piece.size_bytes > MOST_OF_A_SHARD * self._most_bytes
        if self._pending and (piece.shard != self._pending[-1].shard or full or too_much):
            self._write()
        self._pending.append(piece)

    def finish(self) -> list[FrozenShard]:
        """All shards, once they are written."""
        if self._pending:
            self._write()
        return [written() for written in self._shards]

    @property
    def _pending_bytes(self) -> int:
        return sum(piece.size_bytes for piece in self._pending)

    def _write(self) -> None:
        name, size_bytes = f"{len(self._shards):05d}", self._pending_bytes
        write = partial(_written, name, self._folder / f"{name}.arrow", self._pending)
        self._pending = []
        if size_bytes < LARGE_SHARD_BYTES:
            written = write(hashed=False)
            self._shards.append(lambda: written)
            return
        self._make_room(size_bytes)
        writing = self._threads.submit(write, hashed=True)
        self._writing.append((writing, size_bytes))
        self._shards.append(writing.result)

    def _make_room(self, size_bytes: int) -> None:
        """Wait until so many bytes more may be written at once; they are in memory meanwhile."""
        most = SHARDS_AHEAD * self._most_bytes - size_bytes
        while len(self._writing) >= cores() or sum(size for _, size in self._writing) > max(0, most):
            self._writing.popleft()[0].result()


def _written(name: str, file: Path, pieces: Sequence[Piece], *, hashed: bool) -> FrozenShard:
    table = pa.concat_tables([put_together(piece.rows) if piece.apart else piece.rows for piece in pieces])
    frozen = table.drop_columns(["_cost"])
    with pa.ipc.new_file(str(file), frozen.schema) as writer:
        writer.write_table(frozen)
    cost = int(table.column("_cost").to_numpy().sum())
    return FrozenShard(name, file, len(table), cost, file_sha256(file) if hashed else None)
