"""Item files: `id`, `_fingerprint`, `_state`, then the display columns; in order of id digests.

Parts hold consecutive ranges of id digests, and rows ascend within each, so reading parts in order reads
items in one fixed order, whatever the number of parts: diffs are merges, and the content digest has an
order to be computed in.
"""

from __future__ import annotations

import bisect
import contextlib
import difflib
import itertools
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from embedmill.cores import cores
from embedmill.digest import digests_from_arrow
from embedmill.errors import ReleaseCorrupt, ReleaseIncompatible, ReleaseMissing
from embedmill.release.cells import cells_of
from embedmill.types import ItemState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from embedmill.types import Digests, Mask

ID, FINGERPRINT, STATE = "id", "_fingerprint", "_state"
OWN_COLUMNS = (ID, FINGERPRINT, STATE)
BATCH_ROWS = 16_384
LOOKED_AT_ROWS = 1024
"""Of a column, to tell whether its values repeat."""


def states(empty: Mask) -> pa.Array:
    """The `_state` column of rows, some of which are empty."""
    return pa.DictionaryArray.from_arrays(
        pa.array(empty.astype(np.int8)), pa.array([ItemState.EMBEDDED.value, ItemState.EMPTY.value])
    )


def is_embedded(rows: pa.RecordBatch | pa.Table) -> Mask:
    """bool[N]: rows whose item has a vector."""
    state = rows.column(STATE)
    if isinstance(state, pa.DictionaryArray):  # as files have it: the few different states are compared
        found: Mask = _is_embedded(state.dictionary)[state.indices.to_numpy(zero_copy_only=False)]
        return found
    return _is_embedded(state)


def _is_embedded(state: pa.Array | pa.ChunkedArray) -> Mask:
    embedded = pc.equal(state.cast(pa.string()), ItemState.EMBEDDED.value)
    return np.asarray(embedded.to_numpy(zero_copy_only=False), dtype=np.bool_)


def item_fingerprints(rows: pa.RecordBatch) -> Digests:
    """S16[N]: the fingerprints of item rows."""
    return digests_from_arrow(rows.column(FINGERPRINT))


def write_items(file: Path, rows: pa.Table) -> None:
    """Write one item file, with dictionaries of columns that repeat: of others they are larger and slower."""
    repeating = [name for name in rows.schema.names if name == STATE or _repeats(rows, name)]
    pq.write_table(rows, file, compression="zstd", use_dictionary=repeating, row_group_size=BATCH_ROWS)


def _repeats(rows: pa.Table, name: str) -> bool:
    """Whether a dictionary of the column is worth its while, judged by its first rows.

    They are as random as all are, for rows are in the order of digests.
    """
    if name in {ID, FINGERPRINT}:
        return False
    looked_at = rows.column(name).slice(0, LOOKED_AT_ROWS)
    try:
        distinct: int = pc.count_distinct(looked_at, mode="all").as_py()
    except pa.ArrowNotImplementedError:  # of lists and the like: what is in them may repeat
        return True
    return 2 * distinct <= len(looked_at)


class ItemFiles:
    """Writes item files in threads; the end of its `with` block waits for them.

    As many as there are cores are written at once, and `add` waits while more would be held in memory.
    """

    def __init__(self) -> None:
        """Start nothing yet."""
        self._most = cores()
        self._threads = ThreadPoolExecutor(self._most, "item-files")
        self._begun: deque[Future[None]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, raised: object, *more: object) -> None:
        self._threads.shutdown(cancel_futures=raised is not None)
        while self._begun and raised is None:
            self._begun.popleft().result()

    def add(self, file: Path, rows: pa.Table) -> None:
        """Begin to write a file; errors of earlier ones are raised here or at the end."""
        while len(self._begun) >= self._most:
            self._begun.popleft().result()
        self._begun.append(self._threads.submit(write_items, file, rows))


def read_items(files: Iterable[Path], columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Rows of item files, in batches; `columns` None reads all.

    Raises:
        ReleaseCorrupt: A file is no item file.
        ReleaseIncompatible: A file has no column of that name.
    """
    for file in files:
        with _opened(file) as parquet:
            _check_columns(parquet.schema_arrow, columns or ())
            yield from parquet.iter_batches(
                BATCH_ROWS, columns=list(columns) if columns is not None else None
            )


def _check_columns(schema: pa.Schema, columns: Iterable[str]) -> None:
    """Refuse a column that is not there, which Parquet's reader would leave out without a word."""
    for column in columns:
        top = column.partition(".")[0]
        if column in schema.names or (top in schema.names and pa.types.is_nested(schema.field(top).type)):
            continue
        near = difflib.get_close_matches(column, schema.names, n=1)
        guess = f"did you mean {near[0]!r}? " if near else ""
        hint = f"{guess}it has: {', '.join(schema.names)}; `catalog.display` says what releases keep"
        raise ReleaseIncompatible(f"items of the release have no column {column!r}", hint=hint)


def read_part(file: Path, columns: Sequence[str] | None = None) -> pa.RecordBatch:
    """All rows of one item file; `columns` None reads all.

    Raises:
        ReleaseCorrupt: The file is no item file.
    """
    with _opened(file) as parquet:
        rows = parquet.read(columns=list(columns) if columns is not None else None).combine_chunks()
        return rows.to_batches()[0] if len(rows) else pa.RecordBatch.from_pylist([], rows.schema)


class ItemTable:
    """All item rows, each file read when a row of it is wanted first. Rows are numbered through all files."""

    def __init__(self, files: Sequence[Path], rows: Sequence[int]) -> None:
        """Read nothing yet; `rows` says how many each file has."""
        self._files = tuple(files)
        self._starts = list(itertools.accumulate(rows, initial=0))
        self._read: dict[int, pa.Table] = {}
        self._cells: dict[int, dict[str, Callable[[int], Any]]] = {}

    def columns(self, places: Iterable[int], names: Sequence[str]) -> list[list[Any]]:
        """The Python values of these columns, each with a value for each of a few rows.

        Column by column, so that what reads them is in the processor's cache for all rows but the first.

        Raises:
            ReleaseCorrupt: A file is no item file.
            ReleaseMissing: A file was deleted meanwhile.
        """
        found = [self._found(place) for place in places]
        return [[cells[name](row) for cells, row in found] for name in names]

    def whole(self) -> pa.Table:
        """All rows, files beside each other.

        Raises:
            ReleaseCorrupt: A file is no item file.
            ReleaseMissing: A file was deleted meanwhile.
        """
        with ThreadPoolExecutor(cores()) as threads:
            return pa.concat_tables(threads.map(self._part, range(len(self._files))))

    def _found(self, place: int) -> tuple[dict[str, Callable[[int], Any]], int]:
        """The columns of the file that has this row, and which of its rows that is."""
        file = bisect.bisect_right(self._starts, place) - 1
        cells = self._cells.get(file)
        if cells is None:
            part = self._part(file)
            cells = self._cells[file] = dict(zip(part.column_names, map(cells_of, part.columns), strict=True))
        return cells, place - self._starts[file]

    def _part(self, file: int) -> pa.Table:
        if file not in self._read:
            self._read[file] = _read_whole(self._files[file])
        return self._read[file]


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(file, memory_map=True, pre_buffer=False) as parquet:
            yield parquet
    except (pa.ArrowException, OSError) as error:
        raise ReleaseCorrupt(f"{file}: not an item file: {error}") from error


def _read_whole(file: Path) -> pa.Table:
    if not file.exists():  # another release went live since, and this one was collected
        raise ReleaseMissing(
            f"{file}: was deleted while its release was open", hint="open the release that is live"
        )
    with _opened(file) as parquet:
        return parquet.read(use_threads=False).combine_chunks()
