"""What the catalog's parts hand each other: source files, batches, and rows that cannot be read."""

from __future__ import annotations

import contextlib
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

import numpy as np
import pyarrow as pa

from embedmill.errors import CatalogError, CatalogUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from embedmill.types import Rows

BATCH_ROWS = 8192
BATCH_BYTES = 32 << 20


@dataclass(frozen=True)
class SourceFile:
    """One file of a catalog; `version` changes with its content: mtime in ns, or the ETag in a store."""

    name: str
    size_bytes: int
    version: str


@dataclass(frozen=True)
class UnreadableRow:
    """A row that could not be read; `line` is where it starts, from 1, in files that have lines."""

    source: str
    line: int | None
    detail: str


@dataclass(frozen=True)
class CatalogBatch:
    """Rows of the catalog, beside those that could not be read and the count that `where` left out."""

    rows: pa.RecordBatch
    unreadable: tuple[UnreadableRow, ...]
    excluded: int


@dataclass(frozen=True)
class Chunk:
    """Rows of one file; `numbers` has the line (or row, in files without lines) of each, from 1."""

    rows: pa.RecordBatch
    numbers: Rows
    unreadable: tuple[UnreadableRow, ...]

    @classmethod
    def of_lines(cls, file: str, rows: pa.RecordBatch, numbers: Rows, problems: Mapping[int, str]) -> Chunk:
        """The rows whose lines have no problem; what was said of the others, by line."""
        keep = np.isin(numbers, np.array(list(problems), dtype=np.int64), invert=True)
        unreadable = tuple(UnreadableRow(file, line, problems[line]) for line in sorted(problems))
        return cls(rows if keep.all() else rows.filter(pa.array(keep)), numbers[keep], unreadable)


Absent: TypeAlias = Literal["error", "null", "unknown"]
"""A column that a file has not: a mistake; null here, if another file has it; or nobody's, without rows."""


class TableFile(Protocol):
    """One file of a catalog, in some format."""

    name: str
    schema: pa.Schema
    """Every column that the file has, with plain types."""
    has_lines: bool
    absent: Absent

    def chunks(self, schema: pa.Schema) -> Iterator[Chunk]:
        """The columns of `schema` in its types, in order of the file, some 32 MiB at a time at most.

        Raises:
            CatalogError: The file is damaged.
        """
        ...


class Origin(Protocol):
    """Where a table lies."""

    @property
    def file(self) -> SourceFile:
        """What was found there, or what was read, once it is."""
        ...

    def check_unchanged(self) -> None:
        """Refuse what changed while it was read.

        Raises:
            CatalogUnavailable: It did.
        """
        ...


def shown(value: object, most: int = 60) -> str:
    """A value of the catalog for a message: quoted, escaped and cut."""
    text = repr(value)
    return text if len(text) <= most else text[: most - 3] + "..."


@contextlib.contextmanager
def reading(name: str, kind: str) -> Iterator[None]:
    """Errors of reading the file `name` as a CatalogError that names it."""
    try:
        yield
    except FileNotFoundError as error:
        raise CatalogUnavailable(f"{name}: no such file", hint="it was there before; run again") from error
    except PermissionError as error:
        raise CatalogError(f"{name}: permission denied", hint="make it readable for this user") from error
    except (pa.ArrowException, UnicodeDecodeError, OSError, EOFError, zlib.error) as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise CatalogError(
            f"{name}: cannot be read as {kind}: {said[0].rstrip('.')}",
            hint="the file is damaged or of another format",
        ) from error
