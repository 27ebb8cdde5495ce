"""Images that decoders refused, remembered from run to run: none is fetched to be refused again.

The key is the item's fingerprint, which changes with the image's validator. What is remembered holds for one
encoder and for the decoders that said it: others try again.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import pyarrow.parquet as pq

from embedmill.digest import digest_list
from embedmill.errors import ObjectMissing, ReleaseCorrupt
from embedmill.model.images import decoders_among
from embedmill.release.runs import commit_records
from embedmill.types import Reason, Rejection

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from embedmill.release.layout import Home
    from embedmill.release.reader import Release
    from embedmill.spec.documents import CommitRecord, Plan
    from embedmill.types import Digests

COLUMNS = ("fingerprint", "reason", "detail", "decoders")


class Refusal(NamedTuple):
    """Why a fingerprint has no vector; `decoders`: who would say so again, None if another try may help."""

    reason: Reason
    detail: str
    decoders: str | None


def refusals_of(home: Home, commits: Iterable[CommitRecord]) -> dict[bytes, Refusal]:
    """What the shards' workers could not embed, by fingerprint.

    Raises:
        ReleaseCorrupt: A file is not what its worker wrote.
    """
    found: dict[bytes, Refusal] = {}
    for commit in commits:
        if commit.rejected is not None:
            rows = pq.read_table(home.verified(home.key(commit.rejected.path), commit.rejected)).to_pylist()
            decoders = decoders_among(commit.profile.libraries)
            found |= {
                row["fingerprint"]: Refusal(
                    Reason(row["reason"]), row["detail"], decoders if row.get("lasting") else None
                )
                for row in rows
            }
    return found


@dataclass(frozen=True)
class Refusals:
    """What `decoders` refused before, by fingerprint."""

    decoders: str
    known: Mapping[bytes, Rejection] = field(default_factory=dict)

    @classmethod
    def collect(cls, home: Home, decoders: str, base: Release | None, others: Iterable[Plan]) -> Refusals:
        """Read the quarantine of a release, and what workers of unpublished runs refused; all of one encoder.

        What is gone or damaged of those runs is not remembered: it is found out again.
        """
        known = _of_release(base, decoders) if base is not None else {}
        for other in others:
            with contextlib.suppress(ObjectMissing, ReleaseCorrupt):
                found = refusals_of(home, commit_records(home, other, whole_ones=True))
                known |= {
                    print_: Rejection(why.reason, why.detail, lasting=True)
                    for print_, why in found.items()
                    if why.decoders == decoders
                }
        return cls(decoders, known)

    def of(self, prints: Digests) -> dict[int, Rejection]:
        """The rows of S16[N] that were refused before."""
        if not self.known:
            return {}
        return {row: self.known[each] for row, each in enumerate(digest_list(prints)) if each in self.known}


def _of_release(base: Release, decoders: str) -> dict[bytes, Rejection]:
    file = base.folder / base.content.quarantine.path
    if not set(COLUMNS) <= set(pq.read_schema(file).names):  # written before anything was remembered
        return {}
    rows = pq.read_table(file, columns=list(COLUMNS), filters=[("decoders", "=", decoders)])
    return {
        row["fingerprint"]: Rejection(Reason(row["reason"]), row["detail"], lasting=True)
        for row in rows.to_pylist()
    }
