"""PostgreSQL by ADBC (extra `sql`): `COPY … TO STDOUT` as a stream of record batches.

Connections are libpq's: what is not in the URL comes from PGHOST, PGUSER, PGPASSWORD, PGPASSFILE,
PGSERVICE, … (https://www.postgresql.org/docs/current/libpq-envars.html).
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from embedmill.catalog.base import Absent, Chunk, SourceFile
from embedmill.catalog.sql.adbc import Expression, chunks, require, select, spoken, translated
from embedmill.catalog.sql.base import Database, once, quoted, with_declared
from embedmill.errors import CatalogUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from embedmill.errors import CatalogError

BATCH_SIZE_BYTES = 8 << 20
CONNECT_TIMEOUT_S = 30

_AS_THEY_ARE = {
    "bool": pa.bool_(),
    "int2": pa.int16(),
    "int4": pa.int32(),
    "int8": pa.int64(),
    "float4": pa.float32(),
    "float8": pa.float64(),
    "text": pa.string(),
    "varchar": pa.string(),
    "name": pa.string(),
    "bytea": pa.binary(),
}
_IN_TIME = {"timestamp": pa.timestamp("us"), "timestamptz": pa.timestamp("us", "UTC"), "date": pa.date32()}

_HINTS = {
    "22": "correct catalog.query, or the view that catalog.table names",
    "25": "nothing may be written: correct catalog.query, or the view that catalog.table names",
    "28": "check the user, and where its password comes from: PGPASSWORD, PGPASSFILE or ${NAME} in the URL",
    "3D": "correct the name of the database in catalog.source",
    "42501": "grant this user SELECT on what the catalog reads",
    "42P01": "correct catalog.table or catalog.query; names are taken as written, with their schema",
    "42703": "correct catalog.query",
    "42": "correct catalog.query",
    "57014": "raise the server's statement_timeout for this user, or read less by catalog.query",
    "source": "correct catalog.source, or the variables PG… and the service that libpq reads",
}
_WITHOUT_STATE = {
    "password|role|authentication|pg_hba": "28",
    "database .* does not exist": "3D",
    "statement timeout": "57014",
    "read-only transaction": "25",
    "^invalid input|division by zero|out of range": "22",
    "^invalid (URI|port|[a-z_]* value|integer value)|^definition of service|not support SSL": "source",
    "connection|host name|the database system is|timeout expired|SSL SYSCALL|due to conflict with": "08",
}
_PASSING = frozenset({"08", "40", "53", "57", "58"})
"""Classes of SQLSTATE that say nothing against the spec: connections, conflicts, resources, shutdowns."""
_LOST = "run again once the database answers; nothing was planned"


class PostgresqlTable:
    """A table, view or query of PostgreSQL.

    Its version is the snapshot that was read: as long as no transaction writes, later ones are equal to it.
    """

    has_lines = False
    absent: Absent = "error"

    def __init__(self, database: Database, types: Mapping[str, pa.DataType]) -> None:
        """Ask for the columns."""
        self.name = database.name
        self._database = database
        with self._transaction() as cursor, translated(self._translated):
            cursor.execute(f"SELECT * FROM {database.relation()} LIMIT 0")  # noqa: S608 - the user's own
            with cursor.fetch_record_batch() as reader:
                fields = list(reader.schema)
        once(self.name, [each.name for each in fields])
        self._kinds = {each.name: _typename(each) for each in fields}
        self.schema = with_declared({name: _arrow(kind) for name, kind in self._kinds.items()}, types)

    @property
    def file(self) -> SourceFile:
        """The database as of the last transaction."""
        return SourceFile(self.name, 0, self._snapshot)

    def check_unchanged(self) -> None:
        """One statement reads one state."""

    def chunks(self, schema: pa.Schema) -> Iterator[Chunk]:
        """The rows, with the columns of `schema`."""
        expressions = [_expression(name, self._kinds[name]) for name in schema.names]
        with self._transaction() as cursor:
            with translated(self._translated):
                cursor.execute(select(self._database.relation(), expressions))
                reader = cursor.fetch_record_batch()
            with reader:
                yield from chunks(self._database, iter(reader), schema, self._translated)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Any]:
        """A cursor in a transaction that sees one state, and cannot write."""
        driver = require("adbc_driver_postgresql.dbapi", "The PostgreSQL driver of ADBC")
        with translated(self._translated):
            connection = driver.connect(_with_defaults(self._database.url))
        with connection:
            cursor = connection.cursor(
                adbc_stmt_kwargs={"adbc.postgresql.batch_size_hint_bytes": str(BATCH_SIZE_BYTES)}
            )
            with cursor:
                with translated(self._translated):
                    cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                    cursor.execute("SELECT txid_current_snapshot()::text")
                    self._snapshot = str(cursor.fetchone()[0])
                yield cursor

    def _translated(self, error: Exception) -> CatalogError:
        said = spoken(error)
        state = getattr(error, "sqlstate", None) or _told_state(said)
        if state[:2] in _PASSING and state not in _HINTS:
            return self._database.failed(said, _LOST, CatalogUnavailable)
        hint = next((_HINTS[key] for key in (state, state[:2]) if key in _HINTS), _HINTS["22"])
        return self._database.failed(said, hint)


def _told_state(said: str) -> str:
    """The SQLSTATE of an error that came without one, as those of connections and streams do."""
    return next((state for pattern, state in _WITHOUT_STATE.items() if re.search(pattern, said)), "")


def _with_defaults(url: str) -> str:
    """The URL, with a limit on how long a connection may take, unless there is one."""
    if "connect_timeout" in url or "PGCONNECT_TIMEOUT" in os.environ or "service=" in url:
        return url
    return f"{url}{'&' if '?' in url else '?'}connect_timeout={CONNECT_TIMEOUT_S}"


def _typename(column: pa.Field) -> str:
    """PostgreSQL's name of the column's type, such as `int4`, or `_int4` for an array of them."""
    return str((column.metadata or {}).get(b"POSTGRESQL:type", b""), "utf-8")


def _arrow(kind: str) -> pa.DataType:
    """The type that a column of this one is read as: text, where Arrow has none that holds all values."""
    if kind.startswith("_"):
        return pa.list_(_AS_THEY_ARE.get(kind[1:], pa.string()))
    return _AS_THEY_ARE.get(kind) or _IN_TIME.get(kind) or pa.string()


def _expression(name: str, kind: str) -> Expression:
    """How a column is read; what the driver would silently make nonsense of is `wrong`."""
    column = quoted(name)
    if kind in _AS_THEY_ARE:
        return Expression(name, column)
    if kind in _IN_TIME:
        outside = f"({column} < '0001-01-01' OR {column} >= '10000-01-01')"
        return Expression(name, column, outside, "is not in the years 1 to 9999")
    if kind.startswith("_"):
        value = column if kind[1:] in _AS_THEY_ARE else f"{column}::text[]"
        return Expression(name, value, f"array_ndims({column}) > 1", "is an array of more than one dimension")
    return Expression(name, f"{column}::text")
