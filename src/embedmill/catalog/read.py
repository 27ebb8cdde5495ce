"""Reads a catalog as Arrow record batches: only the columns that are used, some rows at a time.

What CSV and JSON Lines texts mean, and what is unreadable: docs/catalog.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from embedmill.catalog.base import (
    BATCH_BYTES,
    BATCH_ROWS,
    CatalogBatch,
    Chunk,
    Origin,
    SourceFile,
    TableFile,
    UnreadableRow,
)
from embedmill.catalog.columnar import ArrowFile, ParquetFile
from embedmill.catalog.delimited import CsvFile
from embedmill.catalog.disguise import refuse_disguised
from embedmill.catalog.files import LocatedFile, locate
from embedmill.catalog.fingerprint import is_id_type
from embedmill.catalog.jsonl import JsonlFile
from embedmill.catalog.schema import common_schema, declared_types
from embedmill.catalog.sql import open_database
from embedmill.catalog.where import compile_where, where_columns
from embedmill.errors import CatalogError, SpecError
from embedmill.spec.database import database_scheme

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from embedmill.spec import CatalogSpec
    from embedmill.store import Store

__all__ = ["CatalogBatch", "CatalogReader", "SourceFile", "UnreadableRow"]


class CatalogReader:
    """The rows of a catalog.

    `schema` has the id and then the columns asked for, each once.
    """

    def __init__(
        self,
        spec: CatalogSpec,
        *,
        root: Path,
        store: Store | None,
        columns: Sequence[str],
        asked: Mapping[str, str] | None = None,
    ) -> None:
        """Find the files and agree on one schema; `root` is the folder that relative paths start from.

        `asked` has, for messages, what asks for a column, such as `catalog.display names`.

        Raises:
            CatalogError: No such source, an unreadable file, an absent column, schemas that disagree.
            SpecError: `where`, `types` or a `store:` source is wrong.
            MissingExtra: The driver of a database is not installed.
        """
        self._tables, self._origins = _opened(spec, root, store)
        wanted = list(dict.fromkeys([spec.id, *columns]))
        filtered = where_columns(spec.where) if spec.where else ()
        needed = list(dict.fromkeys([*wanted, *filtered]))
        why = (
            dict.fromkeys(filtered, "catalog.where names") | dict(asked or {}) | {spec.id: "catalog.id names"}
        )
        self._read_schema = common_schema(self._tables, needed, id_column=spec.id, asked=why)
        if not is_id_type(self._read_schema.field(spec.id).type):
            kind = self._read_schema.field(spec.id).type
            raise CatalogError(
                f"{self._tables[0].name}: the id column {spec.id!r} is {kind}", hint="an id is one value"
            )
        self._where = compile_where(spec.where, self._read_schema) if spec.where else None
        self.schema = pa.schema([self._read_schema.field(name) for name in wanted])

    @property
    def files(self) -> tuple[SourceFile, ...]:
        """Its files by name, or its database: as found, and as read once `batches` is through."""
        return tuple(origin.file for origin in self._origins)

    def batches(self) -> Iterator[CatalogBatch]:
        """All rows in order of file name and row, at most 8192 rows and some 32 MiB at a time.

        Raises:
            CatalogError: A file is damaged, or changed since it was found.
        """
        for table, origin in zip(self._tables, self._origins, strict=True):
            for chunk in table.chunks(self._read_schema):
                yield from _bounded(self._filtered(chunk, table))
            origin.check_unchanged()

    def _filtered(self, chunk: Chunk, table: TableFile) -> CatalogBatch:
        rows = chunk.rows.select(self.schema.names)
        if self._where is None:
            return CatalogBatch(rows, chunk.unreadable, 0)
        chosen = self._where.select(chunk.rows)
        kept = rows.filter(pa.array(chosen.keep))
        excluded = len(rows) - len(kept) - len(chosen.problems)
        unreadable = (
            _unreadable(table, int(chunk.numbers[row]), said) for row, said in chosen.problems.items()
        )
        return CatalogBatch(kept, (*chunk.unreadable, *unreadable), excluded)


def _unreadable(table: TableFile, number: int, said: str) -> UnreadableRow:
    if table.has_lines:
        return UnreadableRow(table.name, number, said)
    return UnreadableRow(table.name, None, f"row {number}: {said}")


def _bounded(batch: CatalogBatch) -> Iterator[CatalogBatch]:
    """The batch, cut in halves until each is small enough; what was left out is told with the first."""
    count = len(batch.rows)
    if count <= 1 or (count <= BATCH_ROWS and batch.rows.nbytes <= BATCH_BYTES):
        yield batch
    else:
        yield from _bounded(CatalogBatch(batch.rows.slice(0, count // 2), batch.unreadable, batch.excluded))
        yield from _bounded(CatalogBatch(batch.rows.slice(count // 2), (), 0))


def _opened(
    spec: CatalogSpec, root: Path, store: Store | None
) -> tuple[Sequence[TableFile], Sequence[Origin]]:
    """The tables of the catalog, and where each lies."""
    types = declared_types(spec.types)
    if database_scheme(spec.source):
        table = open_database(spec, root, types)
        return [table], [table]
    located = locate(spec, root, store)
    return [_table(each, located.format, types) for each in located.files], located.files


def _table(located: LocatedFile, format_: str, types: Mapping[str, pa.DataType]) -> TableFile:
    name, path = located.file.name, located.path
    if format_ in {"csv", "jsonl"}:
        refuse_disguised(name, path)
    match format_:
        case "csv":
            return CsvFile(name, path, types)
        case "jsonl":
            return JsonlFile(name, path, types)
    if types:
        raise SpecError(
            "catalog.types is for CSV, JSONL and databases",
            hint=f"{format_} files have types of their own; remove it",
        )
    return ParquetFile(name, path) if format_ == "parquet" else ArrowFile(name, path)
