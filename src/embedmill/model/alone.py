"""Whether a row's vector is its own: the same alone and among others, and the same a second time."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from embedmill.errors import ModelError
from embedmill.model.encoder import Encoder
from embedmill.model.goldens import LOWEST_COSINE, cosines
from embedmill.types import Encoded

MOST_ROWS = 4
"""So many show it; each may be a shape that a runtime compiles anew."""
LOWEST_ROUNDED_COSINE = 0.99
"""Where the package declares a lower precision, other kernels of another size of batch round otherwise."""


def check_alone(encoder: Encoder, rows: pa.RecordBatch, together: Encoded) -> ModelError | None:
    """The error that a model is whose vectors depend on the rows beside them, or on chance; None if none is.

    Dropout that was left on, batch normalisation in training mode and dynamic quantisation do so, and a model
    of texts that has an input for the mask and pools without it. Whoever embeds once sees nothing of it, for
    the same rows in the same order make the same vectors.

    Args:
        encoder: What made the vectors.
        rows: Rows of it.
        together: What it made of all of them at once.
    """
    kept = np.setdiff1d(np.arange(rows.num_rows), list(together.rejected))
    chosen = kept[:: max(1, len(kept) // MOST_ROWS)][:MOST_ROWS]
    parts = [encoder.encode(rows.slice(row, 1)) for row in chosen.tolist()]
    pairs = [(row, part) for row, part in zip(chosen.tolist(), parts, strict=True) if not part.rejected]
    if not pairs:
        return None
    alone = np.concatenate([part.vectors_ND for _, part in pairs])
    lowest = float(cosines(alone, together.vectors_ND[[row for row, _ in pairs]]).min())
    least = LOWEST_COSINE if encoder.package.spec.precision == "float32" else LOWEST_ROUNDED_COSINE
    if lowest >= least:
        return None
    return ModelError(
        f"{encoder.package.root}: encoder {encoder.name!r}: vectors depend on the rows beside them, or on "
        f"chance: a row alone has a cosine of {lowest:.6f} with itself among {rows.num_rows}, below {least}",
        hint="dropout or batch normalisation in training mode does so, dynamic quantisation, and pooling "
        "without the mask: export the model for inference, quantise it statically, leave padding out",
    )
