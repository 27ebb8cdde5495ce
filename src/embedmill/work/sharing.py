"""What a shard need not compute: contents that have a vector already, or that an earlier row of it has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from embedmill.catalog import fingerprints
from embedmill.model.inputs import canonical_columns
from embedmill.types import Encoded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from embedmill.catalog import ImageSource
    from embedmill.release.originals import Known
    from embedmill.spec import EncoderInputs
    from embedmill.types import Digests, Rejection, Rows


def content_prints(inputs: EncoderInputs, ready: pa.RecordBatch, images: ImageSource) -> Digests:
    """S16[N]: the fingerprints that rows would have if their images were identified by their bytes."""
    columns = {name: ready.column(name) for name in ready.schema.names}
    for name in inputs.image_fields:
        columns[name] = images.identity(columns[name], name=name).values
    return fingerprints(canonical_columns(inputs, pa.RecordBatch.from_pydict(columns))[0])


@dataclass(frozen=True)
class Sharing:
    """Of `count` rows those that must be embedded, and where others get their vectors from.

    `wanted` int64[W] ascends. `twins` have the contents of the rows `firsts`, which are among them. `known`
    has a vector already. All others are in `missing`.
    """

    count: int
    missing: Mapping[int, Rejection]
    wanted: Rows
    twins: Rows
    firsts: Rows
    known: Known | None = None

    @classmethod
    def none(cls, count: int, missing: Mapping[int, Rejection]) -> Sharing:
        """Every row that is there is embedded."""
        nobody = np.zeros(0, dtype=np.int64)
        return cls(count, missing, np.setdiff1d(np.arange(count), list(missing)), nobody, nobody)

    @classmethod
    def of(
        cls, contents: Digests, missing: Mapping[int, Rejection], find: Callable[[Digests], Known]
    ) -> Sharing:
        """Sort rows with these contents out; `find` says which have a vector already."""
        present = np.setdiff1d(np.arange(len(contents)), list(missing))
        found = find(contents[present])
        known = found._replace(
            rows=present[found.rows],
            thumbnails={int(present[row]): each for row, each in found.thumbnails.items()},
        )
        others = np.setdiff1d(present, known.rows)
        _, at, inverse = np.unique(contents[others], return_index=True, return_inverse=True)
        firsts = others[at][inverse]
        own = firsts == others
        return cls(len(contents), missing, others[own], others[~own], firsts[~own], known)

    def copied(self, encoded: Encoded) -> int:
        """How many of all rows have a vector that was not made for them."""
        known = [] if self.known is None else self.known.rows.tolist()
        return sum(row not in encoded.rejected for row in [*known, *self.twins.tolist()])

    def of_all(self, encoded: Encoded) -> Encoded:
        """What has become of all rows, now that those `wanted` are embedded."""
        vectors = np.zeros((self.count, encoded.vectors_ND.shape[1]), dtype=np.float32)
        vectors[self.wanted] = encoded.vectors_ND
        rejected = {**self.missing, **{int(self.wanted[at]): why for at, why in encoded.rejected.items()}}
        thumbnails = {int(self.wanted[at]): each for at, each in encoded.thumbnails.items()}
        if self.known is not None:
            vectors[self.known.rows] = self.known.vectors
            thumbnails |= self.known.thumbnails
        vectors[self.twins] = vectors[self.firsts]
        pairs = list(zip(self.twins.tolist(), self.firsts.tolist(), strict=True))
        rejected |= {twin: rejected[first] for twin, first in pairs if first in rejected}
        thumbnails |= {twin: thumbnails[first] for twin, first in pairs if first in thumbnails}
        return Encoded(vectors, rejected, thumbnails)
