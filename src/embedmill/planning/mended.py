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
from embedmill.digest import digest_list
from embedmill.errors import CatalogError, MissingExtra, ReleaseCorrupt, RunError, StoreError
from embedmill.model.inputs import canonical_columns
from embedmill.release import runs
from embedmill.release.assemble import read_candidate
from embedmill.release.verdicts import verdicts_on
from embedmill.types import Reason

if TYPE_CHECKING:
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
"""Images that are fetched at once to see whether any can be had."""


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
    for batch in reader.batches():
        texts = _texts(batch.rows.column(spec.id))
        chosen = pc.fill_null(pc.is_in(texts, wanted), False)
        if pc.any(chosen).as_py():
            before = [lost[each] for each in texts.filter(chosen).to_pylist()]
            if _changed(planner, images, batch.rows.filter(chosen), before):
                return True
    return False


def _changed(planner: Planner, images: ImageSource, rows: pa.RecordBatch, before: list[_Lost]) -> bool:
    """Whether any of these rows would be another input now, or has an image that can be had."""
    inputs, version = planner.package.inputs("item"), planner.spec.catalog.image_version
    versions = rows.column(version) if version is not None else None
    found = {name: images.identity(rows.column(name), versions) for name in inputs.image_fields}
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
        row for each in found.values() for row, is_ in enumerate(each.values.to_pylist()) if _lacks(is_)
    }
    again = [row for row in known if row not in missing and before[row].reason in MAY_BE_THERE]
    return _any_there(planner, images, rows, {name: each.values for name, each in found.items()}, again)


def _lacks(identity: bytes | None) -> bool:
    """Whether it is that of a file or object that is not there."""
    return identity is not None and identity.startswith(b"m1")


def _any_there(
    planner: Planner,
    images: ImageSource,
    rows: pa.RecordBatch,
    identities: dict[str, pa.Array],
    again: list[int],
) -> bool:
    """Whether all images of one of these rows can be had; few are held at once, for mostly the first can."""
    start, count = 0, FEW
    while start < len(again):
        some, lacking = pa.array(again[start : start + count], pa.int64()), set[int]()
        for name in planner.package.inputs("item").image_fields:
            found = images.fetch(rows.column(name).take(some), identities[name].take(some))
            lacking |= set(found.rejected)
        if len(lacking) < len(some):
            return True
        start, count = start + count, min(2 * count, MOST)
    return False


def _texts(ids: pa.Array) -> pa.Array:
    """Ids as the quarantine has them."""
    plain = plain_array(ids)
    if pa.types.is_string(plain.type) or pa.types.is_integer(plain.type):
        return plain.cast(pa.string())
    return pa.array([None if each is None else str(each) for each in plain.to_pylist()], pa.string())
