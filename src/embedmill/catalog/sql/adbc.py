"""What the drivers of ADBC have in common: record batches come as a stream, with what is wrong with a row.

A driver converts what it can, and says nothing where a value has no equal in Arrow. So the statement itself
judges every row, in a column beside those asked for.
"""

from __future__ import annotations

import contextlib
import importlib
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from embedmill.arrow import plain_array
from embedmill.catalog.columnar import conformed
from embedmill.catalog.sql.base import Database, quoted, row_label
from embedmill.extras import optional

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from embedmill.catalog.base import Chunk
    from embedmill.errors import CatalogError

PROBLEM = "_embedmill_problem"


class Expression(NamedTuple):
    """How a column is read: `value` in SQL, and a condition for `wrong`, if rows can be so."""

    name: str
    value: str
    wrong: str = ""
    why: str = ""


def require(module: str, what: str) -> Any:
    """The driver's DBAPI module.

    Raises:
        MissingExtra: It is not installed.
    """
    with optional(what, module.partition(".")[0], "adbc_driver_manager", extra="sql"):
        return importlib.import_module(module)


def select(relation: str, expressions: Iterable[Expression]) -> str:
    """The statement that reads the columns, and what is wrong with a row, or null."""
    columns = list(expressions)
    values = [f"{each.value} AS {quoted(each.name)}" for each in columns]
    cases = [
        f"WHEN {each.wrong} THEN {literal(f'column {each.name!r} {each.why}')}"
        for each in columns
        if each.wrong
    ]
    problem = f"CASE {' '.join(cases)} END" if cases else "CAST(NULL AS TEXT)"
    asked = ", ".join([*values, f"{problem} AS {quoted(PROBLEM)}"])
    return f"SELECT {asked} FROM {relation}"  # noqa: S608 - names are quoted, the rest is the user's own


def spoken(error: Exception) -> str:
    """What the database said, without what the driver puts in front."""
    return re.sub(r"^[A-Z_]+: (\[\w+\] )?(Failed to \w+( query)?: )?", "", str(error))


def literal(text: str) -> str:
    """A text in SQL."""
    return "'" + text.replace("'", "''") + "'"


@contextlib.contextmanager
def translated(translate: Callable[[Exception], CatalogError]) -> Iterator[None]:
    """Errors of a driver as ours; streams raise those of Arrow."""
    from adbc_driver_manager import Error

    try:
        yield
    except (Error, pa.ArrowException, OSError) as error:
        raise translate(error) from None  # whose cause may have the URL in it


def chunks(
    database: Database,
    batches: Iterator[pa.RecordBatch],
    schema: pa.Schema,
    translate: Callable[[Exception], CatalogError],
) -> Iterator[Chunk]:
    """The batches in the types of `schema`, without the rows that have a problem."""
    before = 0
    while True:
        with translated(translate):
            batch = next(batches, None)
        if batch is None:
            return
        columns = [plain_array(batch.column(name)) for name in schema.names]
        rows = pa.RecordBatch.from_arrays(columns, names=schema.names)
        said = batch.column(PROBLEM)
        known = (
            {row: why for row, why in enumerate(said.to_pylist()) if why}
            if len(said) > said.null_count
            else {}
        )
        label = row_label(rows, database.id, before)
        yield conformed(database.name, rows, schema, before, known=known, label=label)
        before += len(rows)
