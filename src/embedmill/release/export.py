"""A release's vectors as files that others read: Parquet (one file or a folder) or .npy. Streamed."""

from __future__ import annotations

import contextlib
import errno
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embedmill.errors import ReleaseCorrupt, SpecError, StoreDenied, StoreError, StoreFull
from embedmill.release.items import FINGERPRINT, ID, OWN_COLUMNS, STATE, is_embedded, item_fingerprints

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from embedmill.release.reader import Release
    from embedmill.types import Vectors

VECTOR = "vector"
PART_ITEMS = 500_000


@dataclass(frozen=True)
class Exported:
    """What was written; `without_vector` counts items that were left out, their input being empty."""

    files: tuple[Path, ...]
    items: int
    without_vector: int

    @property
    def size_bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.stat().st_size for file in self.files)


def export_release(
    release: Release,
    target: Path,
    *,
    fixed_size: bool = True,
    part_items: int = PART_ITEMS,
    force: bool = False,
) -> Exported:
    """Write the items that have a vector, in the order of `Release.items`; whole or not at all.

    Args:
        release: An opened release.
        target: `FILE.parquet`: `id`, display columns and `vector`. `FILE.npy`: float32[N, D], and the ids in
            `FILE.ids.parquet` beside it. A name without a suffix: a folder of Parquet files.
        fixed_size: Whether `vector` is FixedSizeList<float32>[D] in Parquet; else List<float32>, for readers
            that know no other.
        part_items: Rows of a folder's parts, to the next full batch.
        force: Replace what is there.

    Raises:
        SpecError: The target exists, has another suffix, or is a folder with other files in it.
        StoreFull: It does not fit.
        StoreDenied: It cannot be written there.
    """
    vectors = _Stream(release, fixed_size=fixed_size)
    with _translated(target):
        match target.suffix:
            case ".parquet":
                return _export_files(vectors, [target], _write_parquet, force=force)
            case ".npy":
                return _export_files(vectors, [target, ids_file(target)], _write_npy, force=force)
            case "":
                return _export_folder(vectors, target, part_items, force=force)
    raise SpecError(
        f"{target}: exports are not written as {target.suffix}",
        hint="name a .parquet file, an .npy file, or a folder",
    )


def ids_file(target: Path) -> Path:
    """Where the ids of an .npy file's rows are."""
    return target.with_suffix(".ids.parquet")


@dataclass(frozen=True)
class _Stream:
    """Batches of items that have a vector, with it."""

    release: Release
    fixed_size: bool

    @property
    def items(self) -> int:
        """N, as the release's accounting says."""
        return self.release.content.embedded + self.release.content.reused

    @property
    def without_vector(self) -> int:
        return self.release.content.empty

    @property
    def dimension(self) -> int:
        return self.release.content.dimension

    @property
    def schema(self) -> pa.Schema:
        """`id`, display columns, `vector`."""
        fields = [each for each in self.release.item_schema if each.name not in {FINGERPRINT, STATE}]
        value = pa.field("item", pa.float32(), nullable=False)
        kind = pa.list_(value, self.dimension) if self.fixed_size else pa.list_(value)
        return pa.schema([*fields, pa.field(VECTOR, kind, nullable=False)])

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Rows in `schema`."""
        schema = self.schema
        for items, vectors in self.pairs(schema.names[:-1]):
            columns = [*items.columns, self._column(vectors, schema.field(VECTOR).type)]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)

    def pairs(self, columns: list[str]) -> Iterator[tuple[pa.RecordBatch, Vectors]]:
        """These columns of N items, and their vectors float32[N, D].

        Raises:
            ReleaseCorrupt: An item's vector is not there, or there are more or fewer than were accounted for.
        """
        read, count = list(dict.fromkeys([*columns, *OWN_COLUMNS])), 0
        for batch in self.release.items(read):
            items = batch.filter(pa.array(is_embedded(batch)))
            rows = self.release.table.locate(item_fingerprints(items))
            if (rows < 0).any():
                raise ReleaseCorrupt(f"release {self.release.name}: an item has no vector")
            count += len(items)
            yield items.select(columns), self.release.table.vectors(rows)
        if count != self.items:
            raise ReleaseCorrupt(f"release {self.release.name}: has {count} vectors, not {self.items}")

    def _column(self, vectors: Vectors, kind: pa.DataType) -> pa.Array:
        flat = pa.array(vectors.reshape(-1))
        if self.fixed_size:
            return pa.FixedSizeListArray.from_arrays(flat, type=kind)
        offsets = np.arange(len(vectors) + 1, dtype=np.int32) * self.dimension
        return pa.ListArray.from_arrays(pa.array(offsets), flat, type=kind)


def _export_files(
    stream: _Stream, targets: list[Path], write: Callable[..., None], *, force: bool
) -> Exported:
    """Write under temporary names beside the targets, then rename."""
    taken = [target for target in targets if target.exists()]
    if taken and not force:
        raise SpecError(f"{taken[0]}: exists already", hint="--force replaces it")
    targets[0].parent.mkdir(parents=True, exist_ok=True)
    partial = [target.with_name(f".{target.name}.{uuid.uuid4().hex}.part") for target in targets]
    try:
        write(stream, *partial)
        for made, target in zip(partial, targets, strict=True):
            made.replace(target)
    finally:
        for made in partial:
            made.unlink(missing_ok=True)
    return Exported(tuple(targets), stream.items, stream.without_vector)


def _write_parquet(stream: _Stream, file: Path) -> None:
    with pq.ParquetWriter(file, stream.schema, compression="zstd") as writer:
        for batch in stream.batches():
            writer.write_batch(batch)


def _write_npy(stream: _Stream, file: Path, ids: Path) -> None:
    """Written and not mapped: a full disk is then an error, and not a signal."""
    header = {"descr": "<f4", "fortran_order": False, "shape": (stream.items, stream.dimension)}
    schema = pa.schema([stream.schema.field(ID)])
    with file.open("wb") as out, pq.ParquetWriter(ids, schema, compression="zstd") as writer:
        np.lib.format.write_array_header_2_0(out, header)
        for items, vectors in stream.pairs([ID]):
            out.write(np.ascontiguousarray(vectors, dtype="<f4").data)
            writer.write_batch(items)


def _export_folder(stream: _Stream, target: Path, part_items: int, *, force: bool) -> Exported:
    """Parts in a temporary folder that is then renamed."""
    _check_replaceable(target, force=force)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
    partial.mkdir()
    try:
        names = _write_parts(stream, partial, part_items)
        if target.exists():
            shutil.rmtree(target)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Exported(tuple(target / name for name in names), stream.items, stream.without_vector)


def _check_replaceable(target: Path, *, force: bool) -> None:
    """An earlier export may be replaced, and an empty folder; nothing else that somebody may need."""
    if not target.exists():
        return
    if not target.is_dir():
        raise SpecError(f"{target}: is a file", hint="name a folder, or a .parquet or .npy file")
    there = list(target.iterdir())
    strange = [file for file in there if not (file.name.startswith("part-") and file.suffix == ".parquet")]
    if strange:
        raise SpecError(
            f"{target}: has other files in it, such as {strange[0].name}", hint="name a new folder"
        )
    if there and not force:
        raise SpecError(f"{target}: has an export already", hint="--force replaces it")


def _write_parts(stream: _Stream, folder: Path, part_items: int) -> list[str]:
    """Names of the parts; a release without vectors has one empty part, with its schema."""
    names: list[str] = []
    batches = stream.batches()
    batch = next(batches, None)
    while batch is not None or not names:
        names.append(f"part-{len(names):05d}.parquet")
        with pq.ParquetWriter(folder / names[-1], stream.schema, compression="zstd") as writer:
            rows = 0
            while batch is not None and rows < part_items:
                writer.write_batch(batch)
                rows += len(batch)
                batch = next(batches, None)
    return names


@contextlib.contextmanager
def _translated(target: Path) -> Iterator[None]:
    """The operating system's errors as ours."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            raise StoreFull(f"{target}: no space left", hint="free some space, then export again") from error
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise StoreDenied(f"{target}: cannot be written: {error.strerror}") from error
        raise StoreError(f"{target}: cannot be written: {error.strerror or error}") from error
