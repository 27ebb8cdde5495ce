"""What changed between two releases: a merge of their items, which both lie in order of id digests.

Memory is bounded by two batches of items, the examples that are kept, and the ids of the quarantine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embedmill.catalog import id_digests
from embedmill.release.items import FINGERPRINT, ID, OWN_COLUMNS, item_fingerprints
from embedmill.release.quarantined import quarantined_ids
from embedmill.release.values import python_value
from embedmill.spec.reports import DiffExample, DiffPart, DiffReport, jsonable

if TYPE_CHECKING:
    from embedmill.release.contents import ContentTable
    from embedmill.release.reader import Release
    from embedmill.spec.documents import ReleaseName
    from embedmill.types import Digests, Mask, Rows


@dataclass(frozen=True)
class Example:
    """An item, and its display columns in each release (None where it is not in it)."""

    id: Any
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None


@dataclass
class Changes:
    """Items of one kind of change: how many, and the first few in order of id digests."""

    count: int = 0
    examples: list[Example] = field(default_factory=list)

    def report(self) -> DiffPart:
        """The same as part of a document."""
        examples = (
            DiffExample(id=jsonable(one.id), before=jsonable(one.before), after=jsonable(one.after))
            for one in self.examples
        )
        return DiffPart(count=self.count, examples=tuple(examples))


@dataclass
class ReleaseDiff:
    """Items added, removed, with another input, with the same input and other display columns, and the same.

    Display columns are compared where both releases have them with one type; `columns_added` and
    `columns_removed` name the others (a column of another type is in both). `same_content` counts items whose
    images have another reference, time or tag, and the same bytes: their input is the same. `quarantined` has
    items that were there and are refused now, which `removed`, those that left the catalog, does not count.
    """

    columns_added: tuple[str, ...]
    columns_removed: tuple[str, ...]
    same_encoder: bool
    added: Changes = field(default_factory=Changes)
    removed: Changes = field(default_factory=Changes)
    quarantined: Changes = field(default_factory=Changes)
    input_changed: Changes = field(default_factory=Changes)
    display_changed: Changes = field(default_factory=Changes)
    unchanged: int = 0
    same_content: int = 0

    def report(self, before: ReleaseName, after: ReleaseName) -> DiffReport:
        """The same as a document."""
        kinds = ("added", "removed", "quarantined", "input_changed", "display_changed")
        return DiffReport(
            before=before,
            after=after,
            same_encoder=self.same_encoder,
            columns_added=self.columns_added,
            columns_removed=self.columns_removed,
            unchanged=self.unchanged,
            **{kind: getattr(self, kind).report() for kind in kinds},
        )


def diff_releases(before: Release, after: Release, *, examples: int = 5) -> ReleaseDiff:
    """Compare the items of two releases; `examples` of each kind are kept."""
    old, new = (_display_fields(release) for release in (before, after))
    shared = [name for name in old if old[name] == new.get(name)]
    result = ReleaseDiff(
        columns_added=tuple(name for name in new if name not in shared),
        columns_removed=tuple(name for name in old if name not in shared),
        same_encoder=before.content.encoder_digest == after.content.encoder_digest,
    )
    columns = [ID, FINGERPRINT, *shared]
    compare_items(
        result,
        before.items(columns),
        after.items(columns),
        shared,
        examples=examples,
        contents=(before.contents, after.contents),
        refused=quarantined_ids(after.folder / after.content.quarantine.path),
    )
    return result


def same_contents(before: Release, after: Release) -> int:
    """Items of both releases whose images have other names or times, and whose input is the same."""
    merge = _Merge(ReleaseDiff((), (), same_encoder=True), (), 0, (before.contents, after.contents))
    columns = [ID, FINGERPRINT]
    for left, right in _windows(_Cursor(before.items(columns)), _Cursor(after.items(columns))):
        merge.add(left, right)
    return merge.result.same_content


def compare_items(
    result: ReleaseDiff,
    before: Iterator[pa.RecordBatch],
    after: Iterator[pa.RecordBatch],
    columns: Sequence[str],
    *,
    examples: int,
    contents: tuple[ContentTable, ContentTable] | None = None,
    refused: pa.Array | None = None,
) -> None:
    """Merge item rows (`id`, `_fingerprint` and `columns`), in order of id digests, and add to `result`.

    By `contents`, of both releases, an image that was only touched or copied is no other input. `refused` has
    the ids, as texts, of what is quarantined afterwards.
    """
    merge = _Merge(result, columns, examples, contents, refused)
    for left, right in _windows(_Cursor(before), _Cursor(after)):
        merge.add(left, right)


def _display_fields(release: Release) -> dict[str, pa.DataType]:
    return {each.name: each.type for each in release.item_schema if each.name not in OWN_COLUMNS}


@dataclass(frozen=True)
class _Rows:
    """Item rows with their id digests, which ascend."""

    rows: pa.RecordBatch
    ids: Digests

    def split(self, at: int) -> tuple[_Rows, _Rows]:
        first = _Rows(self.rows.slice(0, at), self.ids[:at])
        return first, _Rows(self.rows.slice(at), self.ids[at:])


class _Cursor:
    """Item batches, read one at a time."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._batches = batches
        self._held: _Rows | None = None

    def peek(self) -> _Rows | None:
        """The rows that are not taken yet of the current batch; None at the end."""
        while self._held is None or not len(self._held.ids):
            batch = next(self._batches, None)
            if batch is None:
                return None
            self._held = _Rows(batch, id_digests(batch.column(ID)))
        return self._held

    def take(self, last: np.bytes_) -> _Rows | None:
        """The rows of the current batch up to the digest `last`."""
        held = self.peek()
        if held is None:
            return None
        taken, self._held = held.split(int(np.searchsorted(held.ids, last, "right")))
        return taken


def _windows(before: _Cursor, after: _Cursor) -> Iterator[tuple[_Rows | None, _Rows | None]]:
    """Rows of both sides that cover the same range of digests."""
    while True:
        left, right = before.peek(), after.peek()
        ends = [side.ids[-1] for side in (left, right) if side is not None]
        if not ends:
            return
        last = min(ends)
        yield before.take(last), after.take(last)


@dataclass(frozen=True)
class _Merge:
    """Adds windows to a result."""

    result: ReleaseDiff
    columns: Sequence[str]
    most: int
    contents: tuple[ContentTable, ContentTable] | None = None
    refused: pa.Array | None = None

    def add(self, left: _Rows | None, right: _Rows | None) -> None:
        """Count the items of one window."""
        if left is None or right is None or not len(left.ids) or not len(right.ids):
            self._gone(left, None)
            self._only(self.result.added, right, None)
            return
        at = np.minimum(np.searchsorted(left.ids, right.ids), len(left.ids) - 1)
        known = left.ids[at] == right.ids
        gone = np.ones(len(left.ids), dtype=np.bool_)
        gone[at[known]] = False
        self._gone(left, np.flatnonzero(gone))
        self._only(self.result.added, right, np.flatnonzero(~known))
        self._both(left.rows.take(pa.array(at[known])), right.rows.filter(pa.array(known)))

    def _gone(self, side: _Rows | None, rows: Rows | None) -> None:
        """Items that only the older side has: quarantined now, or removed; `rows` None is all of them."""
        if side is None:
            return
        rows = np.arange(len(side.ids)) if rows is None else rows
        lost: Mask = np.zeros(len(rows), dtype=np.bool_)
        if self.refused is not None and len(self.refused) and len(rows):
            ids = side.rows.column(ID).take(pa.array(rows)).cast(pa.string())
            lost = pc.is_in(ids, self.refused).to_numpy(zero_copy_only=False)
        self._only(self.result.quarantined, side, rows[lost])
        self._only(self.result.removed, side, rows[~lost])

    def _only(self, changes: Changes, side: _Rows | None, rows: Rows | None) -> None:
        """Items that one side alone has; `rows` None is all of them."""
        if side is None:
            return
        rows = np.arange(len(side.ids)) if rows is None else rows
        changes.count += len(rows)
        gone = changes is not self.result.added
        for row in rows[: self.most - len(changes.examples)]:
            values = {name: python_value(side.rows.column(name)[row]) for name in self.columns}
            before, after = (values, None) if gone else (None, values)
            changes.examples.append(Example(python_value(side.rows.column(ID)[row]), before, after))

    def _both(self, old: pa.RecordBatch, new: pa.RecordBatch) -> None:
        """Items that both have, row by row."""
        other_input = self._other_input(item_fingerprints(old), item_fingerprints(new))
        differs = {name: different(old.column(name), new.column(name)) for name in self.columns}
        shown = np.logical_or.reduce([np.zeros(len(old), dtype=np.bool_), *differs.values()])
        self._changed(self.result.input_changed, old, new, np.flatnonzero(other_input), differs)
        self._changed(self.result.display_changed, old, new, np.flatnonzero(shown & ~other_input), differs)
        self.result.unchanged += int((~other_input & ~shown).sum())

    def _other_input(self, old: Digests, new: Digests) -> Mask:
        """bool[N]: items that the model sees otherwise; some fingerprints differ by an image's time alone."""
        other: Mask = old != new
        if self.contents is not None and other.any():
            at = np.flatnonzero(other)
            same = self.contents[0].same(old[at], self.contents[1], new[at])
            other[at[same]] = False
            self.result.same_content += int(same.sum())
        return other

    def _changed(
        self,
        changes: Changes,
        old: pa.RecordBatch,
        new: pa.RecordBatch,
        rows: Rows,
        differs: Mapping[str, Mask],
    ) -> None:
        changes.count += len(rows)
        for row in rows[: self.most - len(changes.examples)]:
            names = [name for name, mask in differs.items() if mask[row]]
            before, after = (
                {name: python_value(side.column(name)[row]) for name in names} for side in (old, new)
            )
            changes.examples.append(Example(python_value(new.column(ID)[row]), before, after))


def different(old: pa.Array, new: pa.Array) -> Mask:
    """bool[N]: rows whose values differ; nulls are equal, and so are NaNs. Arrays have one type."""
    if old.equals(new):
        return np.zeros(len(old), dtype=np.bool_)
    try:
        same = pc.or_kleene(pc.equal(old, new), pc.and_(pc.is_null(old), pc.is_null(new)))
        if pa.types.is_floating(old.type):
            same = pc.or_kleene(same, pc.and_(pc.is_nan(old), pc.is_nan(new)))
    except pa.ArrowNotImplementedError:
        return _different_halves(old, new)
    found: Mask = ~pc.fill_null(same, False).to_numpy(zero_copy_only=False)
    return found


def _different_halves(old: pa.Array, new: pa.Array) -> Mask:
    """For types that Arrow compares as a whole only, such as lists: halves of halves, down to single rows."""
    if old.equals(new):
        return np.zeros(len(old), dtype=np.bool_)
    if len(old) == 1:
        return np.array([repr(python_value(old[0])) != repr(python_value(new[0]))])
    middle = len(old) // 2
    parts = ((old[:middle], new[:middle]), (old[middle:], new[middle:]))
    return np.concatenate([_different_halves(*part) for part in parts])
