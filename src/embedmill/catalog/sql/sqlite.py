"""SQLite by ADBC (extra `sql`).

A column of SQLite may have values of several types, and the driver fails on those that are not like the
first. So the first 10,000 rows tell a column's type, every value is cast to it, and a row that has none to
cast is unreadable. The driver takes its types from the first row: we put one there, and drop it.
"""

from __future__ import annotations

import contextlib
from itertools import chain
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.types as pt

from embedmill.catalog.base import BATCH_BYTES, BATCH_ROWS, Absent, Chunk, SourceFile
from embedmill.catalog.schema import is_number
from embedmill.catalog.sql.adbc import PROBLEM, Expression, chunks, require, select, spoken, translated
from embedmill.catalog.sql.base import Database, quoted, with_declared
from embedmill.errors import CatalogError, CatalogUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SAMPLE_ROWS = 10_000
BUSY_TIMEOUT_MS = 30_000

_ARROW = {"integer": pa.int64(), "real": pa.float64(), "text": pa.string(), "blob": pa.binary()}
_FIRST = {"integer": "0", "real": "0.0", "text": "''", "blob": "x''"}
_ACCEPTED = {
    "integer": ("integer",),
    "real": ("integer", "real"),
    "text": ("integer", "real", "text"),
    "blob": ("blob",),
}
_WORDS = {"integer": "integer", "real": "number", "text": "text", "blob": "blob"}


class SqliteTable:
    """A table, view or query of a SQLite file. Its version is that of the file, and of its log of writes."""

    has_lines = False
    absent: Absent = "error"

    def __init__(self, database: Database, types: Mapping[str, pa.DataType]) -> None:
        """Tell the columns' types from the first rows; `types` are declared ones."""
        self.name = database.name
        self._database, self._path = database, database.path()
        with self._transaction() as cursor, translated(self._translated):
            cursor.execute(f"SELECT * FROM {database.relation()} LIMIT 0")  # noqa: S608 - the user's own
            names = [column[0] for column in cursor.description]
            cursor.execute(_sample(database.relation(), names))
            found = [set(text.split(",")) if text else set() for text in cursor.fetchone() or ()]
        self._storage = {
            name: _storage(seen - {"null"}, types.get(name)) for name, seen in zip(names, found, strict=True)
        }
        self.schema = with_declared({name: _ARROW[kind] for name, kind in self._storage.items()}, types)

    @property
    def file(self) -> SourceFile:
        """The file as of the last transaction."""
        return self._file

    def check_unchanged(self) -> None:
        """One statement reads one state."""

    def chunks(self, schema: pa.Schema) -> Iterator[Chunk]:
        """The rows, with the columns of `schema`."""
        relation, names = self._database.relation(), schema.names
        first = [f"{_FIRST[self._storage[name]]} AS {quoted(name)}" for name in names]
        rows = select(relation, [_expression(name, self._storage[name]) for name in names])
        with self._transaction() as cursor:
            with translated(self._translated):
                cursor.execute(_mean_size(relation, names))
                size = int((cursor.fetchone() or (0,))[0] or 0)
                most = max(1, min(BATCH_ROWS, BATCH_BYTES // max(size, 1)))
                cursor.adbc_statement.set_options(**{"adbc.sqlite.query.batch_rows": str(most)})
                cursor.execute(f"SELECT {', '.join(first)}, '' AS {quoted(PROBLEM)} UNION ALL {rows}")
                reader = cursor.fetch_record_batch()
            with reader:
                with translated(self._translated):
                    typed = reader.read_next_batch()[1:]
                batches = chain([typed], reader)
                yield from chunks(self._database, batches, schema, self._translated)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Any]:
        """A cursor in a transaction, which SQLite begins with the first read; the file is only read."""
        driver = require("adbc_driver_sqlite.dbapi", "The SQLite driver of ADBC")
        if not self._path.is_file():
            raise CatalogError(
                f"{self.name}: there is no file {self._path}",
                hint="sqlite:///items.db is relative to the spec's folder, sqlite:////srv/items.db is not",
            )
        self._file = self._found()  # before it is read: a later change makes another version
        with translated(self._translated):
            connection = driver.connect(f"file:{quote(str(self._path))}?mode=ro")
        with connection, connection.cursor() as cursor:
            with translated(self._translated):
                cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
            yield cursor

    def _found(self) -> SourceFile:
        log = self._path.with_name(f"{self._path.name}-wal")
        stats = [file.stat() for file in (self._path, log) if file.exists()]
        version = " ".join(f"{stat.st_size}:{stat.st_mtime_ns}" for stat in stats if stat.st_size)
        return SourceFile(self.name, stats[0].st_size, version)

    def _translated(self, error: Exception) -> CatalogError:
        said = spoken(error)
        busy = "locked" in said or "busy" in said
        if busy:
            return self._database.failed(said, "another process writes to it; run again", CatalogUnavailable)
        return self._database.failed(said, "correct catalog.table or catalog.query")


def _sample(relation: str, names: list[str]) -> str:
    """The storage classes of each column's values in the first rows, such as `text,null`; reads no blob."""
    seen = ", ".join(f"group_concat(DISTINCT t{at})" for at in range(len(names)))
    kinds = ", ".join(f"typeof({quoted(name)}) AS t{at}" for at, name in enumerate(names))
    return f"SELECT {seen} FROM (SELECT {kinds} FROM {relation} LIMIT {SAMPLE_ROWS})"  # noqa: S608


def _mean_size(relation: str, names: list[str]) -> str:
    """How many bytes of text and blobs a row has, by the first ones; reads no blob."""
    lengths = " + ".join(f"coalesce(length({quoted(name)}), 0)" for name in names)
    return f"SELECT avg(size) FROM (SELECT {lengths} AS size FROM {relation} LIMIT {SAMPLE_ROWS})"  # noqa: S608


def _storage(seen: set[str], declared: pa.DataType | None) -> str:
    """The storage class that a column is read as."""
    if declared is not None:
        seen = seen | {_storage_of(declared)}
    if seen and seen <= {"integer", "real"}:
        return "real" if "real" in seen else "integer"
    return "blob" if seen == {"blob"} else "text"


def _storage_of(kind: pa.DataType) -> str:
    if pt.is_boolean(kind) or pt.is_integer(kind):
        return "integer"
    return "real" if is_number(kind) and not pt.is_decimal(kind) else "text"


def _expression(name: str, storage: str) -> Expression:
    column = quoted(name)
    accepted = ", ".join(f"'{kind}'" for kind in ("null", *_ACCEPTED[storage]))
    wrong = f"typeof({column}) NOT IN ({accepted})"
    value = (
        f"CASE WHEN NOT {wrong} THEN {column} END" if storage == "blob" else f"CAST({column} AS {storage})"
    )
    return Expression(name, value, wrong, f"is no {_WORDS[storage]}")
