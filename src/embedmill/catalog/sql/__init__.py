"""Catalogs in databases: PostgreSQL and SQLite by ADBC, which gives Arrow; others by SQLAlchemy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedmill.catalog.sql.base import Database, SqlTable
from embedmill.spec.database import database_scheme

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pyarrow as pa

    from embedmill.spec import CatalogSpec

__all__ = ["SqlTable", "open_database"]


def open_database(spec: CatalogSpec, root: Path, types: Mapping[str, pa.DataType]) -> SqlTable:
    """The table or query that `spec` names; asks the database for its columns. `types` are declared ones.

    Raises:
        CatalogError: No answer, no access, no such table or column.
        SpecError: The URL refers to an environment variable that is not set, or to an unknown dialect.
        MissingExtra: The driver is not installed.
    """
    database = Database.of(spec, root)
    match database_scheme(spec.source):
        case "postgresql" | "postgres":
            from embedmill.catalog.sql.postgresql import PostgresqlTable

            return PostgresqlTable(database, types)
        case "sqlite":
            from embedmill.catalog.sql.sqlite import SqliteTable

            return SqliteTable(database, types)
    from embedmill.catalog.sql.sqlalchemy import SqlalchemyTable

    return SqlalchemyTable(database, types)
