"""Proof that what is loaded is what was published: without it nothing is served.

Every declared encoder embeds its goldens, and must make the vectors that the release has; the index must
find golden items where they are, as far as there still are such items: a golden whose item was edited or
deleted shows what an encoder makes, and nothing finds it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from embedmill.digest import digests_from_arrow
from embedmill.errors import ProofFailed
from embedmill.model.goldens import LOWEST_COSINE, cosines, goldens_file
from embedmill.model.goldens import read_goldens as read_package_goldens
from embedmill.release.goldens import PRINT, VECTOR, read_goldens, spread
from embedmill.release.vectors import LiveVectors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from embedmill.model import Encoder
    from embedmill.release.reader import Release
    from embedmill.spec.runtimes import EncoderName
    from embedmill.types import Vectors

SEARCHED = 32
"""Golden items, or others where those are gone, that are searched for."""
SLACK = 1e-4
"""How much less than its own score a vector's best hit may have: rounding, and no more."""


@dataclass(frozen=True)
class EncoderProof:
    """What one encoder showed: `goldens` of the `release`, or of the model package where it has none."""

    encoder: str
    goldens: int
    source: str
    lowest_cosine: float


@dataclass(frozen=True)
class Proof:
    """What a release showed before it was served."""

    encoders: tuple[EncoderProof, ...]
    searched: int


def prove(release: Release, encoders: Mapping[EncoderName, Encoder]) -> Proof:
    """Let every encoder and the index show that they belong to the release.

    Raises:
        ProofFailed: A vector is another one than was published, an encoder has no goldens, or the index does
            not find what is there.
    """
    shown = tuple(_prove_encoder(release, name, encoder) for name, encoder in encoders.items())
    return Proof(shown, _prove_search(release))


def release_goldens(release: Release, encoder: str) -> pa.Table | None:
    """The goldens of an encoder in a release, with `_vector`; None if it has none."""
    for entry in release.content.goldens:
        if entry.path.startswith(f"goldens/{encoder}."):
            return read_goldens(release.folder / entry.path)
    return None


def stored_vectors(goldens: pa.Table) -> Vectors:
    """float32[N, D]: the vectors of goldens."""
    found: Vectors = np.stack(goldens.column(VECTOR).to_numpy()).astype(np.float32)
    return found


@dataclass(frozen=True)
class Goldens:
    """Rows that an encoder reads, the vectors that were published of them, and of whom they are."""

    rows: pa.RecordBatch
    stored_ND: Vectors
    source: str


def goldens_of(release: Release, encoder: Encoder) -> Goldens:
    """What an encoder must make again: goldens of the `release`, or of the model `package` where it has none.

    Raises:
        ProofFailed: There are none.
    """
    goldens = release_goldens(release, encoder.name)
    if goldens is not None and len(goldens):
        rows = goldens.select(encoder.fields).combine_chunks().to_batches()[0]
        return Goldens(rows, stored_vectors(goldens), "release")
    file = goldens_file(encoder.package, encoder.name)
    if not file.is_file():
        raise ProofFailed(
            f"release {release.name}: encoder {encoder.name!r} has no goldens: nothing shows what it makes",
            hint="`embedmill model import` writes goldens into the package",
        )
    return Goldens(*read_package_goldens(file), "package")


def _prove_encoder(release: Release, name: str, encoder: Encoder) -> EncoderProof:
    if name == "item" and not _has_goldens(release, name) and not release.content.embedded:
        return EncoderProof(name, 0, "release", 1.0)  # nothing was embedded: there is nothing to compare
    goldens = goldens_of(release, encoder)
    found = cosines(encoder.encode(goldens.rows).vectors_ND, goldens.stored_ND)
    worst = int(np.argmin(found))
    if not found[worst] >= LOWEST_COSINE:
        moved = int((~(found >= LOWEST_COSINE)).sum())
        raise ProofFailed(
            f"release {release.name}: encoder {name!r}: {moved} of {len(found)} goldens of the "
            f"{goldens.source} are not the vectors that were published; "
            f"the lowest cosine is {found[worst]:.6f}, below "
            f"{LOWEST_COSINE}",
            hint="serve with the versions that made the release, or run the pipeline with these",
        )
    return EncoderProof(name, len(found), goldens.source, float(found[worst]))


def _has_goldens(release: Release, encoder: str) -> bool:
    goldens = release_goldens(release, encoder)
    return goldens is not None and len(goldens) > 0


def _prove_search(release: Release) -> int:
    """How many items were searched for; each must find something at least as near as itself."""
    vectors = _searched(release)
    if not len(vectors):
        return 0
    own = np.einsum("nd,nd->n", vectors, vectors)
    best = release.searcher.nearest(vectors, 1).scores_QK[:, 0]
    missed = np.flatnonzero(~(best >= own - SLACK * np.maximum(1.0, own)))
    if len(missed):
        raise ProofFailed(
            f"release {release.name}: the index does not find {len(missed)} of {len(vectors)} items",
            hint="the index is not that of these vectors; run the pipeline again",
        )
    return len(vectors)


def _searched(release: Release) -> Vectors:
    """float32[N, D]: those of golden items that are still there; if none is, of items spread over all."""
    goldens, live = release_goldens(release, "item"), release.searcher.live
    if goldens is not None:
        prints = digests_from_arrow(goldens.column(PRINT).combine_chunks())
        there = np.flatnonzero(LiveVectors(release.table, live).locate(prints) >= 0)[:SEARCHED]
        if len(there):
            return stored_vectors(goldens.take(pa.array(there)))
    rows = np.flatnonzero(live)
    return release.table.vectors(rows[spread(len(rows), SEARCHED)])
