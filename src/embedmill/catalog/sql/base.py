"""What every database has in common: its URL with the secrets filled in, its names, and the seam."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote, unquote

import pyarrow as pa

from embedmill.catalog.base import Origin, TableFile, shown
from embedmill.errors import CatalogError, SpecError
from embedmill.spec.database import REFERENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from embedmill.spec import CatalogSpec

ALIAS = "catalog_rows"
FEW_LETTERS = 3
"""Shorter secrets are no secrets, and occur in every word."""


class SqlTable(TableFile, Origin, Protocol):
    """A table, view or query of a database: read by one statement, so that it is one state of the data.

    It has no lines, and rows in no order.
    """


@dataclass(frozen=True)
class Database:
    """A table or query and how to get there. `name` is for messages; `url` and `secrets` are for nobody."""

    name: str
    url: str = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)
    root: Path
    table: str | None
    query: str | None
    id: str

    @classmethod
    def of(cls, spec: CatalogSpec, root: Path) -> Database:
        """What the spec says, with the environment's values for its references.

        Raises:
            SpecError: A variable is not set.
        """
        values = {name: _variable(name) for name in REFERENCE.findall(spec.source)}
        url = REFERENCE.sub(lambda found: quote(values[found[1]], safe=""), spec.source)
        what = f"table {spec.table}" if spec.table is not None else "query"
        secrets = tuple(values.values())
        return cls(f"{spec.source} ({what})", url, secrets, root, spec.table, spec.query, spec.id)

    def relation(self) -> str:
        """What goes behind FROM; names are quoted, so that they are taken as they are written."""
        if self.table is not None:
            return ".".join(quoted(part) for part in self.table.split("."))
        return f"({self.statement()}\n) AS {ALIAS}"

    def statement(self) -> str:
        """The query without a semicolon at its end."""
        return (self.query or "").strip().rstrip(";")

    def path(self) -> Path:
        """The file of a URL such as `sqlite:///items.db`, which is relative to the spec's folder."""
        rest = self.url.partition("://")[2].partition("?")[0]
        return self.root / unquote(rest.removeprefix("/"))

    def failed(self, said: object, hint: str = "", kind: type[CatalogError] = CatalogError) -> CatalogError:
        """An error that has what the driver said, in one line and without secrets."""
        text = str(said)
        for secret in self.secrets:
            for form in (secret, quote(secret, safe="")):
                text = text.replace(form, "***") if len(form) > FEW_LETTERS else text
        return kind(f"{self.name}: {_first_sentence(text)}", hint=hint)


def quoted(name: str) -> str:
    """An identifier in double quotes, as the SQL standard writes it."""
    return '"' + name.replace('"', '""') + '"'


def row_label(batch: pa.RecordBatch, id_column: str, before: int) -> Callable[[int], str]:
    """Names rows of a batch by their id: a database's rows have no place of their own."""

    def label(row: int) -> str:
        try:
            return f"{id_column} {shown(batch.column(id_column)[row].as_py())}"
        except (UnicodeDecodeError, ValueError, OverflowError):
            return f"row {before + row + 1}"

    return label


def with_declared(found: Mapping[str, pa.DataType], types: Mapping[str, pa.DataType]) -> pa.Schema:
    """The columns with their types, declared ones first."""
    return pa.schema([(name, types.get(name, kind)) for name, kind in found.items()])


def once(name: str, columns: Sequence[str]) -> None:
    """Refuse a query with two columns of one name, which no outer query could tell apart.

    Raises:
        CatalogError: There are two.
    """
    doubled = next((column for column in columns if columns.count(column) > 1), None)
    if doubled is not None:
        raise CatalogError(f"{name}: two columns are named {doubled!r}", hint="name one otherwise, with AS")


def _variable(name: str) -> str:
    try:
        return os.environ[name]
    except KeyError:
        raise SpecError(
            f"catalog.source: the environment variable {name} is not set", hint="set it, or correct the name"
        ) from None


def _first_sentence(text: str) -> str:
    """The first line that says something, without what drivers put in front."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    said = lines[0] if lines else "no reason given"
    for prefix in ("ERROR:", "FATAL:"):
        said = said.rpartition(prefix)[2].strip()
    return said.rstrip(".")
