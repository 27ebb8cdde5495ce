"""Whether feeds are what a server's model takes: told here, before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping

from embedmill.errors import ModelError
from embedmill.runtimes.base import TensorSpec
from embedmill.runtimes.feeding import check_feeds
from embedmill.runtimes.remote.base import Feeds, rows_of


def check_requests(feeds: Feeds, inputs: Mapping[str, TensorSpec], *, said_by: str) -> None:
    """Fail unless there is a feed for each input, of its type and shape, and all have as many rows.

    Raises:
        ModelError: There is not.
    """
    check_feeds(inputs, feeds, said_by=said_by)
    if len({len(array) for array in feeds.values()}) > 1:
        counts = ", ".join(f"{name} {len(array)}" for name, array in feeds.items())
        raise ModelError(f"{said_by}: was fed different counts of rows: {counts}")


def split(feeds: Feeds, rows: int) -> list[Feeds]:
    """The same rows in order, in parts of `rows` at most."""
    starts = range(0, rows_of(feeds), rows)
    return [{name: array[start : start + rows] for name, array in feeds.items()} for start in starts]
