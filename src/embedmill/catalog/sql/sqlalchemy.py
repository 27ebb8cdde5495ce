"""Any other database, by the dialects of SQLAlchemy 2 (extra `sqlalchemy`, and the dialect's own driver).

Rows come through a server-side cursor, where the driver has one. As in JSON Lines, the first 10,000 rows
tell the types, and a value that does not fit makes its row unreadable.
"""

from __future__ import annotations

import contextlib
import json
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from embedmill.catalog.base import BATCH_ROWS, Absent, Chunk, SourceFile, shown
from embedmill.catalog.columnar import conformed
from embedmill.catalog.sql.base import ALIAS, Database, once, row_label, with_declared
from embedmill.errors import CatalogError, CatalogUnavailable, SpecError
from embedmill.extras import optional

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, FromClause, Select

SAMPLE_ROWS = 10_000
FETCHED_ROWS = 64
"""Rows that a driver hands over at once: few, because each may have images."""
CHUNK_BYTES = 8 << 20
LEVELS = ("REPEATABLE READ", "SNAPSHOT", "SERIALIZABLE")
"""Isolation levels at which a long statement sees one state; the first that the dialect has is used."""
CAUSES = 8
"""Of an error, that are looked at."""
_LIBPQ_TRIED = re.compile(r"connection to server (?:at|on socket) .*? failed: (.*)")
_UNFIT = (pa.ArrowException, TypeError, ValueError, OverflowError)


class SqlalchemyTable:
    """A table, view or query of a database that SQLAlchemy has a dialect for.

    Nothing tells whether its rows changed, so each reading has a version of its own.
    """

    has_lines = False
    absent: Absent = "error"

    def __init__(self, database: Database, types: Mapping[str, pa.DataType]) -> None:
        """Tell the columns' types from the first rows; `types` are declared ones."""
        self.name = database.name
        self._database = database
        self._engine = _engine(database)
        with self._connected() as connection:
            names, rows = self._sample(connection)
        columns = zip(*rows, strict=True) if rows else [()] * len(names)
        told = {name: _told(list(map(plain, column))) for name, column in zip(names, columns, strict=True)}
        self.schema = with_declared(told, types)

    @property
    def file(self) -> SourceFile:
        """The database, which is another at each reading."""
        return SourceFile(self.name, 0, self._version)

    def check_unchanged(self) -> None:
        """One statement reads one state, as far as the database has isolation levels."""

    def chunks(self, schema: pa.Schema) -> Iterator[Chunk]:
        """The rows, with the columns of `schema`."""
        before, waiting, size = 0, [], 0
        with self._connected() as connection:
            for row in self._rows(connection, schema.names):
                waiting.append(row)
                size += sum(len(value) for value in row if isinstance(value, str | bytes))
                if len(waiting) >= BATCH_ROWS or size > CHUNK_BYTES:
                    yield self._chunk(waiting, schema, before)
                    before, waiting, size = before + len(waiting), [], 0
            if waiting:
                yield self._chunk(waiting, schema, before)

    def _chunk(self, rows: Sequence[tuple[Any, ...]], schema: pa.Schema, before: int) -> Chunk:
        columns, known = [], dict[int, str]()
        for field, values in zip(schema, zip(*rows, strict=True), strict=True):
            column = typed_column(values, field.type)
            if column.null_count:
                for row, value in enumerate(values):
                    if value is not None and not column[row].is_valid:
                        said = f"column {field.name!r}: {shown(value)} is not of type {field.type}"
                        known.setdefault(row, said)
            columns.append(column)
        batch = pa.RecordBatch.from_arrays(columns, schema=schema)
        label = row_label(batch, self._database.id, before)
        return conformed(self.name, batch, schema, before, known=known, label=label)

    def _sample(self, connection: Connection) -> tuple[list[str], list[Any]]:
        import sqlalchemy as sa

        relation = self._relation([])
        everything = sa.select(sa.literal_column("*")).select_from(relation).limit(SAMPLE_ROWS)
        with self._translated(), connection.execute(everything) as result:
            names, size, rows = list(result.keys()), 0, []
            once(self.name, names)
            for row in result:
                rows.append(row)
                size += sum(len(value) for value in row if isinstance(value, str | bytes))
                if size > CHUNK_BYTES:
                    break
        return names, rows

    def _rows(self, connection: Connection, names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        """The rows with plain values."""
        statement = self._select(names)
        with self._translated():
            result = connection.execute(statement, execution_options={"yield_per": FETCHED_ROWS})
        with result:
            while True:
                with self._translated():
                    rows = result.fetchmany(FETCHED_ROWS)
                if not rows:
                    return
                for row in rows:
                    yield tuple(map(plain, row))

    def _select(self, names: Sequence[str]) -> Select[Any]:
        import sqlalchemy as sa

        relation = self._relation(names)
        return sa.select(*(relation.c[name] for name in names)).select_from(relation)

    def _relation(self, names: Sequence[str]) -> FromClause:
        """What is behind FROM, with these columns; the dialect quotes names."""
        import sqlalchemy as sa

        columns = [sa.column(name) for name in names]
        if self._database.table is not None:
            schema, _, table = self._database.table.rpartition(".")
            return sa.table(table, *columns, schema=schema or None)
        text = self._database.statement().replace(":", r"\:")  # `:x` is no parameter here
        return sa.text(f"{text}\n").columns(*columns).subquery(ALIAS)

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Connection]:
        self._version = uuid.uuid4().hex
        with self._translated():
            connection = self._engine.connect()
        with connection:
            with self._translated():
                level = _isolation(connection)
                options = {"isolation_level": level} if level else {}
                connection = connection.execution_options(**options)
            yield connection
            connection.rollback()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        import sqlalchemy as sa

        try:
            yield
        except sa.exc.DBAPIError as error:
            kind = CatalogUnavailable if error.connection_invalidated or _refused(error) else CatalogError
            raise self._database.failed(
                error.orig, _hint(error), kind
            ) from None  # its cause may have the URL in it
        except sa.exc.SQLAlchemyError as error:
            raise self._database.failed(
                error, "correct catalog.source, catalog.table or catalog.query"
            ) from None


def _engine(database: Database) -> Engine:
    """An engine without a pool: connections are ended when they are closed."""
    with optional("SQLAlchemy", "sqlalchemy", extra="sqlalchemy"):
        import sqlalchemy as sa
    try:
        url = sa.make_url(database.url)
        if url.get_backend_name() == "sqlite" and url.database:
            url = url.set(database=str(database.path()))
        return sa.create_engine(url, poolclass=sa.pool.NullPool, hide_parameters=True)
    except sa.exc.NoSuchModuleError:
        hint = "postgresql:// and sqlite:// are built in; SQLAlchemy has mysql+pymysql:// and others"
        raise SpecError(f"catalog.source: {database.name}: no such dialect or driver", hint=hint) from None
    except ImportError as error:
        raise SpecError(
            f"catalog.source: {database.name}: its driver {error.name} is not installed",
            hint=f"pip install the package that has the module {error.name}",
        ) from None
    except (sa.exc.ArgumentError, ValueError):
        raise SpecError(f"catalog.source: {database.name} is not the URL of a database") from None


def _isolation(connection: Connection) -> str | None:
    """The level that the transaction gets, or None for the database's own."""
    try:
        raw = connection.connection.dbapi_connection
        levels = connection.dialect.get_isolation_level_values(raw)
    except NotImplementedError:
        return None
    return next((level for level in LEVELS if level in levels), None)


def _refused(error: Any) -> bool:
    """Whether nothing listens there, as far as that is sure: by the driver's cause, or by libpq's words.

    libpq has one line for each address that it tried; one that answered otherwise may speak of the spec.
    """
    cause = error.orig
    for _ in range(CAUSES):
        if isinstance(cause, ConnectionRefusedError):
            return True
        cause = getattr(cause, "__cause__", None) or getattr(cause, "__context__", None)
    ends = _LIBPQ_TRIED.findall(str(error.orig)) if type(error).__name__ == "OperationalError" else []
    return bool(ends) and all(end.startswith("Connection refused") for end in ends)


def _hint(error: Any) -> str:
    if error.connection_invalidated or type(error).__name__ in {"OperationalError", "InterfaceError"}:
        return "check catalog.source; run again once the database answers: nothing was planned"
    return "correct catalog.table or catalog.query"


def plain(value: Any) -> Any:
    """A value of a driver as one that Arrow has, without loss: decimals, UUIDs and documents are text."""
    match value:
        case None | bool() | int() | float() | str() | bytes():
            return value
        case datetime():
            return value.astimezone(UTC) if value.tzinfo is not None else value
        case date():
            return value
        case Decimal():
            return format(value, "f")
        case bytearray() | memoryview():
            return bytes(value)
        case dict():
            return json.dumps(value, ensure_ascii=False, default=str)
        case list() | tuple():
            return [plain(each) for each in value]
    return str(value)


def _told(values: Sequence[Any]) -> pa.DataType:
    """The type that a sample of one column's plain values speaks for; several make text."""
    kinds = {type(value) for value in values} - {type(None)}
    if not kinds:
        return pa.null()
    if kinds == {int, float}:
        return pa.float64()
    if kinds == {datetime}:
        zones = {value.tzinfo for value in values if value is not None}
        return pa.timestamp("us", "UTC") if zones == {UTC} else pa.timestamp("us")
    if kinds == {list}:
        return pa.list_(_told([each for value in values if value is not None for each in value]))
    simple = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), bytes: pa.binary(), date: pa.date32()}
    return simple.get(kinds.pop(), pa.string()) if len(kinds) == 1 else pa.string()


def typed_column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """The values as `kind`; those that do not fit are null."""
    with contextlib.suppress(*_UNFIT):
        return pa.array(values, kind)
    return pa.concat_arrays([_typed(value, kind) for value in values])


def _typed(value: Any, kind: pa.DataType) -> pa.Array:
    """One value as `kind`, cast if need be, or null."""
    with contextlib.suppress(*_UNFIT):
        return pa.array([value], kind)
    with contextlib.suppress(*_UNFIT):
        return pa.array([value]).cast(kind)
    return pa.nulls(1, kind)
