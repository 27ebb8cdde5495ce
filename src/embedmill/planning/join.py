"""Second pass, by id: duplicates, and what is new, changed, unchanged or deleted since the base."""

from __future__ import annotations

import contextlib
import math
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embedmill.catalog import id_messages
from embedmill.cores import cores
from embedmill.digest import ascending, digests_from_arrow, digests_to_arrow
from embedmill.planning.base import BaseItems, BaseRows
from embedmill.planning.spill import BUCKETS, MOST_RANGES, Spill, ranges_of
from embedmill.release.item_keys import ItemKeys, ItemKeysFile
from embedmill.release.items import FINGERPRINT, ID, STATE, ItemFiles, states
from embedmill.types import FETCH_REASONS, Reason

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator
    from pathlib import Path

    from embedmill.release.quarantine import QuarantineWriter
    from embedmill.types import Digests, Mask, Rows

PART_ROWS = 16_384
PART_BYTES = 64 << 20
PRINT_BYTES = 4 << 20
"""Of fingerprints of items, held before they are written: four times as many are in memory meanwhile."""
PRINT_SCHEMA = pa.schema([("_fingerprint", pa.binary(16))])


@dataclass
class Join:
    """What the second pass found.

    `dropped` is bool[rows of the catalog]: rows of duplicate ids. `kept_prints` has the fingerprints of all
    items that need a vector, where they are to be counted; `keys` has those of the rows of each part.
    """

    dropped: Mask
    kept_prints: Spill | None
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    deleted: int = 0
    empty: int = 0
    kept: int = 0
    parts: list[tuple[Path, int]] = field(default_factory=list)
    keys: list[ItemKeys] = field(default_factory=list)


def join_ids(
    folder: Path,
    rows: int,
    by_id: Spill,
    base: Iterable[pa.RecordBatch],
    quarantine: QuarantineWriter,
    *,
    keeps: bool = False,
    counts: bool = True,
    part_rows: int = PART_ROWS,
) -> Join:
    """Compare the catalog's rows with the base's items (see BaseItems), and write the item parts.

    A part has some buckets, or a piece of one where buckets are large. In memory are a few parts and one
    large bucket, which grows as 1/64 of the catalog beyond about a million rows. Parts are
    compared in threads and written in others; all is noted in order.
    Where it `keeps`, an item whose image could not be fetched has the base's fingerprint: it is unchanged.
    Unless it `counts`, fingerprints are not kept.
    """
    prints = partial(Spill, folder / "prints", PRINT_SCHEMA, by_id.writers, held_bytes=PRINT_BYTES)
    join = Join(dropped=np.zeros(rows, dtype=np.bool_), kept_prints=prints() if counts else None)
    (folder / "items").mkdir()
    none = _items(by_id.schema.empty_table(), np.zeros(0, dtype=np.bool_))
    pieces = _pieces_a_bucket(by_id, part_rows)
    compared = _in_order(by_id, BaseItems(base, BUCKETS * pieces), pieces, keeps=keeps)
    groups = (
        _groups(by_id, part_rows)
        if pieces == 1
        else (range(each, each + 1) for each in range(BUCKETS * pieces))
    )
    keys = ItemKeysFile(folder / "keys")
    with contextlib.closing(compared), keys, ItemFiles() as written:
        for number, group in enumerate(groups):
            kept = [_noted(next(compared), join, quarantine) for _ in group]
            table = pa.concat_tables([none, *(each.items for each in kept)])
            if len(table) or number == 0:  # an empty catalog has one empty part, with its schema
                file = folder / "items" / f"part-{number:05d}.parquet"
                written.add(file, table)
                keys.add([each.keys for each in kept])
                join.parts.append((file, len(table)))
    join.keys = keys.mapped()
    return join


def _pieces_a_bucket(spill: Spill, part_rows: int) -> int:
    """Ranges of digests that each bucket is cut into, so that none is much larger than a part."""
    most = max(max(spill.rows) / part_rows, max(spill.size_bytes) / PART_BYTES)
    return min(1 << math.ceil(math.log2(max(1.0, most))), MOST_RANGES // BUCKETS)


def _groups(spill: Spill, part_rows: int) -> Iterator[range]:
    """Consecutive buckets that together make a part of bounded size; every bucket is in one group."""
    start, rows, size, sizes = 0, 0, 0, spill.size_bytes
    for bucket in range(BUCKETS):
        full = rows + spill.rows[bucket] > part_rows or size + sizes[bucket] > PART_BYTES
        if full and bucket > start:
            yield range(start, bucket)
            start, rows, size = bucket, 0, 0
        rows, size = rows + spill.rows[bucket], size + sizes[bucket]
    yield range(start, BUCKETS)


class _Compared(NamedTuple):
    """What was found of one piece."""

    items: pa.Table
    keys: ItemKeys
    doubled: pa.Table
    failed: pa.Table
    new: int
    changed: int
    unchanged: int
    deleted: int
    empty: int
    kept: int


def _in_order(by_id: Spill, base: BaseItems, pieces: int, *, keeps: bool) -> Generator[_Compared, None, None]:
    """All pieces of all buckets in order; as many as there are cores are compared at once, in threads.

    Small buckets overlap; of large ones, which are cut, each is done with before the next is read.
    """
    with ThreadPoolExecutor(cores(), "join") as threads:
        begun: deque[Future[_Compared]] = deque()
        for bucket in range(BUCKETS):
            table = by_id.read(bucket).combine_chunks()
            by_id.drop(bucket)
            for number, rows in enumerate(_pieces(table, pieces), bucket * pieces):
                begun.append(threads.submit(_compared, table, rows, base.take(number), keeps=keeps))
                if len(begun) > cores():
                    yield begun.popleft().result()
            del table
            while begun and pieces > 1:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()


def _pieces(table: pa.Table, pieces: int) -> list[Rows]:
    """int64[n] for each piece of a bucket: its rows."""
    if pieces == 1:
        return [np.arange(len(table))]
    ranges = ranges_of(digests_from_arrow(_column(table, "_id_digest")), BUCKETS * pieces) % pieces
    order = np.argsort(ranges, kind="stable")
    return np.split(order, np.cumsum(np.bincount(ranges, minlength=pieces))[:-1])


def _compared(table: pa.Table, rows: Rows, base: BaseRows, *, keeps: bool) -> _Compared:
    """These rows' items in the order of id digests, and what the base has of them."""
    ids = digests_from_arrow(_column(table, "_id_digest"))[rows]
    order = ascending(ids)
    table, ids = table.take(pa.array(rows[order])), ids[order]
    doubled = _doubled(ids)
    previous = _previous(base, _column(table, "id"))
    failed = _column(table, "_reason").is_valid().to_numpy(zero_copy_only=False) & ~doubled
    kept = np.zeros(len(table), dtype=np.bool_)
    if keeps and failed.any():
        kept = failed & previous.embedded & _is_of(table, FETCH_REASONS)
        table, failed = _with_prints(table, kept, previous.prints), failed & ~kept
    good = ~doubled & ~failed
    same = previous.known & (previous.prints == digests_from_arrow(_column(table, "_fingerprint")))
    items, ids = (table, ids) if good.all() else (table.filter(pa.array(good)), ids[good])
    empty = _column(items, "_empty").to_numpy(zero_copy_only=False)
    return _Compared(
        items=_items(items, empty),
        keys=ItemKeys(ids, digests_from_arrow(_column(items, "_fingerprint")), ~empty),
        doubled=table.filter(pa.array(doubled)) if doubled.any() else table.slice(0, 0),
        failed=table.filter(pa.array(failed)) if failed.any() else table.slice(0, 0),
        new=int((~previous.known & good).sum()),
        changed=int((previous.known & ~same & good).sum()),
        unchanged=int((same & good).sum()),
        deleted=previous.gone,
        empty=int(empty.sum()),
        kept=int(kept.sum()),
    )


def _noted(found: _Compared, join: Join, quarantine: QuarantineWriter) -> _Compared:
    """The piece again; what was found beside its items goes to `join` and the quarantine."""
    join.new += found.new
    join.changed += found.changed
    join.unchanged += found.unchanged
    join.deleted += found.deleted
    join.empty += found.empty
    join.kept += found.kept
    _reject_doubled(found.doubled, join, quarantine)
    _reject_failed(found.failed, quarantine)
    if join.kept_prints is not None:
        prints = found.keys.prints[found.keys.embedded]
        rows = pa.RecordBatch.from_arrays([digests_to_arrow(prints)], schema=PRINT_SCHEMA)
        join.kept_prints.add(rows, prints)
    return found


def _doubled(ids: Digests) -> Mask:
    """bool[N]: rows of sorted `ids` whose id another row has too."""
    doubled = np.zeros(len(ids), dtype=np.bool_)
    same = ids[1:] == ids[:-1]
    doubled[1:] |= same
    doubled[:-1] |= same
    return doubled


class _Previous(NamedTuple):
    """What the base has of the ids of N rows: the rest where `known`. `gone` counts ids that it has alone."""

    known: Mask
    prints: Digests
    embedded: Mask
    gone: int


def _previous(base: BaseRows, ids: pa.Array) -> _Previous:
    tails, head = id_messages(ids)
    alike = head == base.head  # else no id of one is an id of the other
    found = pc.index_in(tails, value_set=base.ids) if alike else pa.nulls(len(ids), pa.int32())
    known: Mask = found.is_valid().to_numpy(zero_copy_only=False)
    at = found.drop_null().to_numpy(zero_copy_only=False)
    prints, embedded = np.zeros(len(ids), dtype="S16"), np.zeros(len(ids), dtype=np.bool_)
    prints[known], embedded[known] = base.prints[at], base.embedded[at]
    seen = np.zeros(len(base.ids), dtype=np.bool_)
    seen[at] = True
    return _Previous(known, prints, embedded, int((~seen).sum()))


def _is_of(table: pa.Table, reasons: frozenset[Reason]) -> Mask:
    found = pc.is_in(_column(table, "_reason"), pa.array(sorted(map(str, reasons))))
    mask: Mask = found.to_numpy(zero_copy_only=False)
    return mask


def _with_prints(table: pa.Table, chosen: Mask, prints: Digests) -> pa.Table:
    """The table with other fingerprints in the chosen rows."""
    own = digests_from_arrow(_column(table, "_fingerprint"))
    column = digests_to_arrow(np.where(chosen, prints, own))
    return table.set_column(table.schema.get_field_index("_fingerprint"), table.field("_fingerprint"), column)


def _reject_failed(rows: pa.Table, quarantine: QuarantineWriter) -> None:
    """Quarantine rows whose image cannot be had or used, each with its own reason."""
    for row in rows.select(["id", "_row", "_reason", "_detail", "_fingerprint", "_decoders"]).to_pylist():
        quarantine.add(
            Reason(row["_reason"]),
            ids=[row["id"]],
            rows=[row["_row"]],
            details=[row["_detail"]],
            fingerprints=[row["_fingerprint"]],
            decoders=row["_decoders"],
        )


def _reject_doubled(rows: pa.Table, join: Join, quarantine: QuarantineWriter) -> None:
    numbers = _column(rows, "_row").to_numpy()
    join.dropped[numbers] = True
    quarantine.add(
        Reason.DUPLICATE_ID,
        ids=rows.column("id").to_pylist(),
        rows=numbers.tolist(),
        details=["another row has the same id"] * len(rows),
    )


def _items(table: pa.Table, empty: Mask) -> pa.Table:
    """Item rows: `id`, `_fingerprint`, `_state`, display columns under their own names."""
    columns = {ID: table.column("id"), FINGERPRINT: table.column("_fingerprint"), STATE: states(empty)}
    for name in table.schema.names:
        if name.startswith("d:"):
            columns[name.removeprefix("d:")] = table.column(name)
    return pa.table(columns)


def _column(table: pa.Table, name: str) -> pa.Array:
    """A column of a table in one chunk."""
    column = table.column(name)
    found = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return found.chunk(0) if isinstance(found, pa.ChunkedArray) else found
