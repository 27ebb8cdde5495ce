"""Whether images that an open run lacks are there now, or are others: then what a gate said of it is stale.

A catalog's files do not change when the images that they refer to do. Of a run that a gate stopped, exactly
the rows are looked at again whose images were missing or refused: the catalog is read once for them, and of
their images what identifies them is asked for, as a plan does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from embedmill.arrow import plain_array
from embedmill.catalog import CatalogReader, ImageSource, fingerprints
from embedmill.catalog.images import is_missing
from embedmill.digest import digest_list
from embedmill.errors import CatalogError, MissingExtra, ReleaseCorrupt, RunError, StoreError
from embedmill.model.inputs import canonical_columns
from embedmill.release import runs
from embedmill.release.assemble import read_candidate
from embedmill.release.verdicts import verdicts_on
from embedmill.types import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedmill.planning.plan import Planner
    from embedmill.spec.documents import Plan

OF_IMAGES = frozenset(
    {
        Reason.IMAGE_MISSING,
        Reason.IMAGE_INVALID,
        Reason.IMAGE_TOO_LARGE,
        Reason.FETCH_FAILED,
        Reason.FETCH_TIMEOUT,
        Reason.REFUSED_ADDRESS,
        Reason.SOURCE_CHANGED,
    }
)
"""Reasons that are gone once the image is another one."""

MAY_BE_THERE = OF_IMAGES - {Reason.IMAGE_INVALID, Reason.IMAGE_TOO_LARGE}
"""Of these, reasons that may be gone though what identifies the image is the same: it could not be had."""

FEW, MOST = 16, 512
"""Rows whose images are fetched first, to see whether any can be had; and in all. What is back is mostly back
for many rows, and where nothing is, each try may take until it times out.
"""


class _Spread:
    """Rows that are added, or at most MOST of them, spread evenly."""

    def __init__(self) -> None:
        self._kept: list[pa.RecordBatch] = []
        self._seen, self._step = 0, 1

    def add(self, rows: pa.RecordBatch) -> None:
        """Keep what is a multiple of the step, counted through all rows."""
        some = range(-self._seen % self._step, len(rows), self._step)
        self._seen += len(rows)
        self._kept.append(rows.take(pa.array(some, pa.int64())))
        while sum(map(len, self._kept)) > MOST:
            kept = pa.concat_batches(self._kept)
            self._kept = [kept.take(pa.array(range(0, len(kept), 2), pa.int64()))]
            self._step *= 2

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Few, then twice as many, and so on: all bytes of a batch are held at once, and the first may do."""
        if not self._kept:
            return
        kept, start, count = pa.concat_batches(self._kept), 0, FEW
        while start < len(kept):
            yield kept.slice(start, count)
            start, count = start + count, 2 * count


class _Lost(NamedTuple):
    """Why an item was refused, and the fingerprint that it had; None where an older version wrote it."""

    reason: Reason
    fingerprint: bytes | None


def mended(planner: Planner, plan: Plan) -> str:
    """Why an open run that a gate stopped is not gone on with; empty if no image that it lacks changed.

    One whose list of refused items is damaged is closed: it can never be published.
    """
    gates = verdicts_on(planner.home, plan.run)
    inputs = planner.package.inputs("item")
    if gates is None or gates.passed or not inputs.image_fields:
        return ""
    try:
        lost = _lost(planner, plan)
        changed = bool(lost) and _any_changed(planner, lost)
    except ReleaseCorrupt as error:
        runs.abandon(planner.home, plan.run, error.message)
        return error.message
    except (CatalogError, MissingExtra, RunError, StoreError):
        return ""  # what cannot be looked at is no reason to give up what was computed
    return "a gate stopped it, and images that it lacks changed since" if changed else ""


def _lost(planner: Planner, plan: Plan) -> dict[str, _Lost]:
    """The candidate's items that were refused for their images, by their ids as texts."""
    home, content = planner.home, read_candidate(planner.home, plan.run)
    file = home.verified(home.release_key(plan.run, content.quarantine.path), content.quarantine)
    rows = pq.read_table(
        file, columns=["id", "reason", "fingerprint"], filters=[("reason", "in", sorted(map(str, OF_IMAGES)))]
    )
    return {row["id"]: _Lost(Reason(row["reason"]), row["fingerprint"]) for row in rows.to_pylist()}


def _any_changed(planner: Planner, lost: dict[str, _Lost]) -> bool:
    spec, inputs = planner.spec.catalog, planner.package.inputs("item")
    columns = [*inputs.fields, *([spec.image_version] if spec.image_version is not None else [])]
    reader = CatalogReader(spec, root=planner.root, store=planner.home.store, columns=columns)
    fields = [name for name in inputs.image_fields if not pa.types.is_binary(reader.schema.field(name).type)]
    if not fields:  # bytes of the catalog's own files, whose changes show
        return False
    images, wanted = ImageSource(spec, root=planner.root, store=planner.home.store), pa.array(lost)
    again = _Spread()
    for batch in reader.batches():
        texts = _texts(batch.rows.column(spec.id))
        chosen = pc.fill_null(pc.is_in(texts, wanted), False)
        if pc.any(chosen).as_py():
            before = [lost[each] for each in texts.filter(chosen).to_pylist()]
            if _changed(planner, images, batch.rows.filter(chosen), before, again):
                return True
    return any(_any_there(images, some) for some in again.batches())


def _changed(
    planner: Planner, images: ImageSource, rows: pa.RecordBatch, before: list[_Lost], again: _Spread
) -> bool:
    """Whether any of these rows would be another input now; else `again` gets those that may be had."""
    inputs, version = planner.package.inputs("item"), planner.spec.catalog.image_version
    versions = rows.column(version) if version is not None else None
    found = {name: images.identity(rows.column(name), versions, name=name) for name in inputs.image_fields}
    refused = {row for each in found.values() for row in each.rejected}
    seen = pa.RecordBatch.from_arrays(
        [found[name].values if name in found else rows.column(name) for name in rows.schema.names],
        names=rows.schema.names,
    )
    prints = digest_list(fingerprints(canonical_columns(inputs, seen)[0]))
    known = [row for row in range(len(before)) if row not in refused and before[row].fingerprint is not None]
    if any(prints[row] != before[row].fingerprint for row in known):
        return True
    missing = {
        row
        for each in found.values()
        for row, identity in enumerate(each.values.to_pylist())
        if is_missing(identity)
    }
    may = [row for row in known if row not in missing and before[row].reason in MAY_BE_THERE]
    pairs = [(plain_array(rows.column(name)), each.values) for name, each in found.items()]
    columns = [column for pair in pairs for column in pair]
    tries = pa.RecordBatch.from_arrays(columns, names=[str(number) for number in range(len(columns))])
    again.add(tries.take(pa.array(may, pa.int64())))
    return False


def _any_there(images: ImageSource, tries: pa.RecordBatch) -> bool:
    """Whether all images of one of these rows can be had; columns: images and identities, in turn."""
    lacking = set[int]()
    for number in range(0, tries.num_columns, 2):
        lacking |= set(images.fetch(tries.column(number), tries.column(number + 1)).rejected)
    return len(lacking) < len(tries)


def _texts(ids: pa.Array) -> pa.Array:
    """Ids as the quarantine has them."""
    plain = plain_array(ids)
    if pa.types.is_string(plain.type) or pa.types.is_integer(plain.type):
        return plain.cast(pa.string())
    return pa.array([None if each is None else str(each) for each in plain.to_pylist()], pa.string())
