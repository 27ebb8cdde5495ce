"""A queue that cuts: each batch has a share of every request that waits, so that none is behind a large one.

waiting: A (256 rows), b, c (1 row each)      batch of 32: 30 rows of A, b, c      waiting: A (226 rows)
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from embedmill.types import Encoded

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from embedmill.types import Rejection, Vectors

SHARES = 4
"""A request gets a quarter of a batch while others wait."""


@dataclass(eq=False)
class Waiting:
    """A request: its rows, how many of them went into batches, and what came of them so far."""

    rows: pa.RecordBatch
    arrived: float
    answer: Future[Encoded] = field(default_factory=Future)
    taken: int = 0
    started: float | None = None
    _parts: list[Vectors] = field(default_factory=list)
    _rejected: dict[int, Rejection] = field(default_factory=dict)

    @property
    def left(self) -> int:
        """Rows that are in no batch yet."""
        return int(self.rows.num_rows) - self.taken

    @property
    def gone(self) -> bool:
        """Whether nobody waits for the answer any more, or it has failed."""
        return self.answer.done()

    def add(self, start: int, part: Encoded) -> None:
        """Take what was made of the rows from `start` on; with the last of them comes the answer."""
        self._parts.append(part.vectors_ND)
        self._rejected |= {start + row: why for row, why in part.rejected.items()}
        last = start + len(part.vectors_ND) == self.rows.num_rows
        if last and not self.gone and self.answer.set_running_or_notify_cancel():
            whole = self._parts[0] if len(self._parts) == 1 else np.concatenate(self._parts)
            self.answer.set_result(Encoded(whole, self._rejected))

    def fail(self, error: BaseException) -> None:
        """Answer with an error."""
        if not self.gone and self.answer.set_running_or_notify_cancel():
            self.answer.set_exception(error)


@dataclass(frozen=True)
class Piece:
    """Rows of one request that go into a batch together."""

    request: Waiting
    start: int
    count: int

    @property
    def rows(self) -> pa.RecordBatch:
        """The rows themselves."""
        return self.request.rows.slice(self.start, self.count)


class FairQueue:
    """Requests in the order in which their next rows are computed. Not safe for threads by itself."""

    def __init__(self) -> None:
        """Nobody waits."""
        self._requests: deque[Waiting] = deque()

    def __len__(self) -> int:
        return len(self._requests)

    @property
    def rows(self) -> int:
        """Rows that wait."""
        return sum(request.left for request in self._requests)

    def add(self, request: Waiting, *, first: bool = False) -> None:
        """Let a request wait, behind the others or before them."""
        if first:
            self._requests.appendleft(request)
        else:
            self._requests.append(request)

    def ahead_of(self, rows: int, batch_rows: int) -> int:
        """Rows of others that would be computed before the last of a new request of so many rows."""
        share = _share(batch_rows)
        turns = -(-rows // share)
        return sum(min(request.left, turns * share) for request in self._requests)

    def clear(self) -> list[Waiting]:
        """Take all requests out."""
        taken, self._requests = list(self._requests), deque()
        return taken

    def take(self, batch_rows: int) -> list[Piece]:
        """The next batch: so many rows at most, with the same columns. What nobody waits for is dropped."""
        self._requests = deque(request for request in self._requests if not request.gone)
        if not self._requests:
            return []
        schema = self._requests[0].rows.schema
        fitting = [request for request in self._requests if request.rows.schema == schema]
        pieces = [
            Piece(request, request.taken, count)
            for request, count in _granted(fitting, batch_rows)
            if count > 0
        ]
        for piece in pieces:
            piece.request.taken += piece.count
        served = {id(piece.request) for piece in pieces}
        rest = [request for request in self._requests if id(request) not in served]
        again = [piece.request for piece in pieces if piece.request.left]
        self._requests = deque([*rest, *again])
        return pieces


def _share(batch_rows: int) -> int:
    return max(1, batch_rows // SHARES)


def _granted(requests: list[Waiting], batch_rows: int) -> Iterator[tuple[Waiting, int]]:
    """A share for each in turn; then what room there is goes to the first that has more."""
    room = batch_rows
    shares = []
    for request in requests:
        share = min(request.left, _share(batch_rows), room)
        shares.append(share)
        room -= share
    for request, share in zip(requests, shares, strict=True):
        more = min(request.left - share, room)
        room -= more
        yield request, share + more
