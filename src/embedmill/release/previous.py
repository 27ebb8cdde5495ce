"""Fingerprints that the base's items have: what an item keeps whose image cannot be fetched now."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from embedmill.catalog import id_digests
from embedmill.release.items import FINGERPRINT, ID, STATE, is_embedded, item_fingerprints

if TYPE_CHECKING:
    from embedmill.release.reader import Release
    from embedmill.types import Digests


class PreviousPrints:
    """Fingerprints of a release's embedded items by id; read when the first one is asked for."""

    def __init__(self, base: Release | None) -> None:
        """Take the release, or none."""
        self._base = base

    def of(self, ids: Digests) -> Digests:
        """S16[N]: the fingerprint of each id digest's item; empty where the release has no vector for it."""
        base_ids, base_prints = self._items
        found = np.zeros(len(ids), dtype="S16")
        at = np.searchsorted(base_ids, ids)
        known = at < len(base_ids)
        known[known] = base_ids[at[known]] == ids[known]
        found[known] = base_prints[at[known]]
        return found

    @cached_property
    def _items(self) -> tuple[Digests, Digests]:
        """Of all embedded items, in order of id digests: 32 bytes an item."""
        ids, prints = [np.zeros(0, dtype="S16")], [np.zeros(0, dtype="S16")]
        for batch in self._base.items([ID, FINGERPRINT, STATE]) if self._base else ():
            embedded = is_embedded(batch)
            ids.append(id_digests(batch.column(ID))[embedded])
            prints.append(item_fingerprints(batch)[embedded])
        all_ids, all_prints = np.concatenate(ids), np.concatenate(prints)
        order = np.argsort(all_ids, kind="stable")
        return all_ids[order], all_prints[order]
