"""One part of the planned items joined with the vectors: no store is asked, so that threads can do it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from embedmill.release.item_keys import ItemKeys
    from embedmill.release.keys import TableKeys
    from embedmill.release.previous import PreviousPrints
    from embedmill.types import Mask, Rows

_RECORD = np.dtype([("id", "S16"), ("print", "S16"), ("state", "u1"), ("vector", "S16")])


class JoinedPart(NamedTuple):
    """`kept` bool[N] has the rows whose vector is there or not needed, `replaced` counts the base's prints.

    `keys` are those of all N rows, `rows` int64 those of the kept ones in the vector table, -1 for empty
    items, and `records` what the content digest takes of these: id, fingerprint, state, vector's digest.
    """

    keys: ItemKeys
    kept: Mask
    replaced: int
    rows: Rows
    records: bytes


def join_part(keys: ItemKeys, table: TableKeys, previous: PreviousPrints | None) -> JoinedPart:
    """Find the vector of each item; where `previous` is given, of the base's item if the image is gone."""
    keys, replaced = (keys, 0) if previous is None else _with_previous(keys, table, previous)
    rows = np.where(keys.embedded, table.locate(keys.prints), -1)
    kept: Mask = ~keys.embedded | (rows >= 0)
    if kept.all():
        return JoinedPart(keys, kept, replaced, rows, _records(keys, table, rows))
    return JoinedPart(keys, kept, replaced, rows[kept], _records(keys.only(kept), table, rows[kept]))


def _with_previous(keys: ItemKeys, table: TableKeys, previous: PreviousPrints) -> tuple[ItemKeys, int]:
    failed = np.flatnonzero(previous.failed(keys.prints))
    before = previous.of(keys.ids[failed])
    has = table.locate(before) >= 0
    prints = keys.prints.copy()
    prints[failed[has]] = before[has]
    return keys._replace(prints=prints), int(has.sum())


def _records(keys: ItemKeys, table: TableKeys, rows: Rows) -> bytes:
    records = np.zeros(len(rows), dtype=_RECORD)
    records["id"], records["print"] = keys.ids, keys.prints
    records["state"], records["vector"] = keys.embedded, table.digests(rows)
    return records.tobytes()
