"""CSV files, row by row: every column is text unless `catalog.types` says otherwise."""

from __future__ import annotations

import csv
import gzip
import io
from typing import IO, TYPE_CHECKING, NamedTuple, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from embedmill.catalog.base import BATCH_ROWS, Absent, Chunk, reading, shown
from embedmill.catalog.schema import cast_where_possible, lost
from embedmill.errors import CatalogError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

CHUNK_TEXT_BYTES = 8 << 20


class _Record(NamedTuple):
    line: int
    cells: list[str]
    problem: str


class CsvFile:
    """One CSV or TSV file, plain or gzipped: UTF-8, a header, quotes as in RFC 4180.

    An empty cell is null. Text stays as it is written: the id `00123` keeps its zeros.
    """

    has_lines = True
    absent: Absent = "error"

    def __init__(self, name: str, path: Path, types: Mapping[str, pa.DataType]) -> None:
        """Read the header."""
        self.name, self._path = name, path
        self._delimiter = "\t" if name.lower().removesuffix(".gz").endswith(".tsv") else ","
        with reading(name, "CSV"), open_binary(path) as stream:
            header = next(self._records(stream), None)
        if header is None:
            raise CatalogError(
                f"{name}: empty, without a header", hint="the first line must name the columns"
            )
        problem = header.problem or ("not UTF-8 text" if text_column(list(header.cells))[1] else "")
        if problem:
            raise CatalogError(f"{name}: the header cannot be read: {problem}", hint="write CSV in UTF-8")
        for column in types:
            if column not in header.cells:
                raise CatalogError(
                    f"{name}: catalog.types names {column!r}", hint=f"it has: {', '.join(header.cells)}"
                )
        self.schema = pa.schema([(column, types.get(column, pa.string())) for column in header.cells])

    def chunks(self, schema: pa.Schema) -> Iterator[Chunk]:
        """The rows, with the columns of `schema`."""
        with reading(self.name, "CSV"), open_binary(self._path) as stream:
            records = self._records(stream)
            next(records, None)
            good: list[_Record] = []
            bad: list[_Record] = []
            begun = 0
            for record in records:
                (bad if record.problem else good).append(record)
                count = len(good) + len(bad)
                if count >= BATCH_ROWS or (count % 32 == 0 and stream.tell() - begun > CHUNK_TEXT_BYTES):
                    yield self._chunk(good, bad, schema)
                    good, bad, begun = [], [], stream.tell()
            if good or bad:
                yield self._chunk(good, bad, schema)

    def _records(self, stream: IO[bytes]) -> Iterator[_Record]:
        text = io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline="")
        reader = csv.reader(text, delimiter=self._delimiter, strict=True)
        width = 0
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                through = f" (through line {reader.line_num})" if reader.line_num > line else ""
                yield _Record(line, [], f"{error}{through}")
                continue
            if cells:
                width = width or len(cells)
                problem = "" if len(cells) == width else f"{len(cells)} columns where the header has {width}"
                yield _Record(line, cells, problem)

    def _chunk(self, good: list[_Record], bad: list[_Record], schema: pa.Schema) -> Chunk:
        problems = {record.line: record.problem for record in bad}
        columns = []
        for field in schema:
            at = self.schema.get_field_index(field.name)
            column, broken = text_column([record.cells[at] or None for record in good])
            trimmed = column if pt.is_string(field.type) else pc.utf8_trim_whitespace(column)
            typed = cast_where_possible(trimmed, field.type)
            for row in np.flatnonzero(lost(column, typed)).tolist():
                problems.setdefault(
                    good[row].line,
                    f"column {field.name!r}: {shown(good[row].cells[at])} is not of type {field.type}",
                )
            for row in broken:
                problems[good[row].line] = f"column {field.name!r} is not UTF-8 text"
            columns.append(typed)
        numbers = np.array([record.line for record in good], dtype=np.int64)
        rows = pa.RecordBatch.from_arrays(columns, schema=schema)
        return Chunk.of_lines(self.name, rows, numbers, problems)


def open_binary(path: Path) -> IO[bytes]:
    """The file's bytes, decompressed where its name ends in .gz."""
    zipped = path.name.lower().endswith(".gz")
    return cast("IO[bytes]", gzip.open(path, "rb")) if zipped else path.open("rb")


def text_column(values: list[str | None]) -> tuple[pa.Array, list[int]]:
    """The values as text, and the rows that are not; those are null."""
    try:
        return pa.array(values, pa.string()), []
    except UnicodeEncodeError:
        raw = pa.array([v if v is None else v.encode("utf-8", "surrogatepass") for v in values], pa.binary())
        column = cast_where_possible(raw, pa.string())
        return column, np.flatnonzero(lost(raw, column)).tolist()
