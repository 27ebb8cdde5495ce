"""Rows become vectors, in the way that is common to every protocol: all of them, or a reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from embedmill.errors import RequestRefused
from embedmill.model.inputs import empty_rows
from embedmill.serving.answers import refuse_rejected

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedmill.model import Encoder
    from embedmill.serving.served import Served
    from embedmill.spec import ServingSpec
    from embedmill.types import Vectors

FEW = 16


async def embed_rows(served: Served, limits: ServingSpec, encoder: str, rows: pa.RecordBatch) -> Vectors:
    """Embed the rows of one request: float32[N, D].

    Raises:
        RequestRefused: There are none or too many, one has nothing to embed, or one cannot be embedded.
        CatalogError: A column is of a wrong type.
        Overloaded: Too much is asked for now.
        ModelError: The model failed.
    """
    lane = served.lane(encoder)
    refuse_count(rows.num_rows, limits)
    refuse_empty(lane.encoder, rows)
    encoded = await lane.embed(rows)
    refuse_rejected(encoded)
    return encoded.vectors_ND


def refuse_count(count: int, limits: ServingSpec) -> None:
    """Refuse a request with no inputs, or too many.

    Raises:
        RequestRefused: Says how many there may be.
    """
    if not 1 <= count <= limits.max_inputs:
        raise RequestRefused(
            f"found {count} inputs",
            hint=f"give 1 to {limits.max_inputs} in one request",
            reason="inputs" if count else "",
        )


def tokens_of(encoder: Encoder, rows: pa.RecordBatch) -> int:
    """How many tokens the model sees, special ones included; 0 where it reads none.

    Raises:
        CatalogError: A column is of a type that no text can be made of.
    """
    ready = [feed.prepare(rows) for feed in encoder.binding.texts]
    return sum(int(each.lengths.sum()) for each in ready if each.lengths is not None)


def refuse_empty(
    encoder: Encoder,
    rows: pa.RecordBatch,
    what: str = "input",
    places: Sequence[int] | None = None,
    alone: str = "",
) -> None:
    """A row without anything to see has no vector, as in a release: it would be near to its like alone.

    Raises:
        RequestRefused: Names the first such row, by its place in the request where `places` has those, and as
            `alone` where the request has no other.
    """
    inputs = encoder.package.inputs(encoder.name)
    texts = [] if inputs.text_field is None else _few_texts(rows, inputs.text_field)
    if texts:
        empty = [row for row, text in enumerate(texts) if not text or text.isspace()]
    else:
        each = [empty_rows(spec.kind, rows) for spec in inputs.root.values()]
        empty = np.flatnonzero(np.logical_and.reduce(each)).tolist()
    if empty:
        place = empty[0] if places is None else places[empty[0]]
        raise RequestRefused(
            f"{alone or f'{what} {place}'} is empty", hint="leave out what has nothing to embed"
        )


def _few_texts(rows: pa.RecordBatch, field: str) -> list[str | None]:
    """Texts of a few rows, which Python looks at sooner than Arrow; none where there is something else."""
    if rows.num_rows > FEW or field not in rows.schema.names or not pa.types.is_string(rows[field].type):
        return []
    texts: list[str | None] = rows[field].to_pylist()
    return texts
