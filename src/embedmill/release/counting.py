"""What became of a plan's counts: workers refuse items, and some keep a previous vector."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embedmill.catalog import id_digests
from embedmill.digest import digests_to_arrow
from embedmill.release.items import FINGERPRINT, ID, item_fingerprints

if TYPE_CHECKING:
    from embedmill.release.reader import Release
    from embedmill.spec.documents import Counts
    from embedmill.types import Digests


class Lost:
    """Items that a plan counted and that no vector could be made for; few of all, but for a broken feed."""

    def __init__(self) -> None:
        """None yet."""
        self._ids: list[pa.Array] = []
        self._prints: list[Digests] = [np.zeros(0, dtype="S16")]

    def add(self, ids: pa.ChunkedArray, prints: Digests) -> None:
        """N more, with the fingerprints S16[N] that were planned."""
        self._ids += ids.chunks
        self._prints.append(prints)

    def counts(self, planned: Counts, base: Release | None, kept: int) -> Counts:
        """The plan's counts without them; `kept` more items than planned keep the base's vector.

        Those were planned as changed, and are as they were.
        """
        prints = np.concatenate(self._prints)
        changed, unchanged = self._in_base(base, prints)
        return planned.model_copy(
            update={
                "new": planned.new - (len(prints) - changed - unchanged),
                "changed": planned.changed - changed - kept,
                "unchanged": planned.unchanged - unchanged + kept,
                "quarantined": planned.quarantined + len(prints),
                "kept": planned.kept + kept,
            }
        )

    def _in_base(self, base: Release | None, prints: Digests) -> tuple[int, int]:
        """How many of them the base has with another fingerprint, and how many with the same."""
        changed = unchanged = 0
        if base is None or not len(prints):
            return 0, 0
        lost = pa.concat_arrays(self._ids)
        alike = base.item_schema.field(ID).type == lost.type
        wanted = lost if alike else digests_to_arrow(id_digests(lost))
        for batch in base.items([ID, FINGERPRINT]):
            ids = batch.column(ID)
            at = pc.index_in(ids if alike else digests_to_arrow(id_digests(ids)), value_set=wanted)
            known = at.is_valid().to_numpy(zero_copy_only=False)
            before = item_fingerprints(batch)[known]
            same = int((before == prints[at.drop_null().to_numpy(zero_copy_only=False)]).sum())
            changed, unchanged = changed + len(before) - same, unchanged + same
        return changed, unchanged
