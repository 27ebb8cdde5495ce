"""Fingerprints that the base's items have: what an item keeps whose image cannot be fetched now."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedmill.catalog import id_digests
from embedmill.digest import digests_from_bytes
from embedmill.release.items import FINGERPRINT, ID, STATE, is_embedded, item_fingerprints

if TYPE_CHECKING:
    from collections.abc import Iterable

    from embedmill.release.reader import Release
    from embedmill.types import Digests, Mask


class PreviousPrints:
    """Fingerprints of a release's embedded items by id, for items whose own ones are of lost images."""

    def __init__(self, base: Release | None, failed: Iterable[bytes]) -> None:
        """Read the release's items, if there is one; `failed` are the fingerprints of lost images."""
        self._failed = digests_from_bytes(b"".join(failed))
        self._ids, self._prints = _embedded_items(base)

    def failed(self, prints: Digests) -> Mask:
        """bool[N]: whose image could not be fetched."""
        return np.isin(prints, self._failed)

    def of(self, ids: Digests) -> Digests:
        """S16[N]: the fingerprint of each id digest's item; empty where the release has no vector for it."""
        found = np.zeros(len(ids), dtype="S16")
        at = np.searchsorted(self._ids, ids)
        known = at < len(self._ids)
        known[known] = self._ids[at[known]] == ids[known]
        found[known] = self._prints[at[known]]
        return found


def _embedded_items(base: Release | None) -> tuple[Digests, Digests]:
    """Id digests, ascending, and fingerprints of all embedded items: 32 bytes an item."""
    ids, prints = [np.zeros(0, dtype="S16")], [np.zeros(0, dtype="S16")]
    for batch in base.items([ID, FINGERPRINT, STATE]) if base else ():
        embedded = is_embedded(batch)
        ids.append(id_digests(batch.column(ID))[embedded])
        prints.append(item_fingerprints(batch)[embedded])
    all_ids, all_prints = np.concatenate(ids), np.concatenate(prints)
    order = np.argsort(all_ids, kind="stable")
    return all_ids[order], all_prints[order]
