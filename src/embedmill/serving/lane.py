"""A lane: one encoder, one thread that computes, and the requests that wait for it.

    request ─▶ embed ─▶ queue (bounded) ─▶ thread: as many as fit into a batch ─▶ Encoder.encode ─▶ answers

Requests that arrive while the model computes make the next batch: nobody waits for a batch to fill. The
encoder itself puts rows of about one length together.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

from embedmill.errors import EmbedmillError, Overloaded
from embedmill.types import Encoded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedmill.model import Encoder
    from embedmill.spec import ServingSpec

FIRST_GUESS_S = 0.005
"""Seconds a row, until one was measured."""
NEWEST_SHARE = 0.2
"""How much of the average of seconds a row is the newest batch."""
CLOSING_S = 10.0


class LaneObserver(Protocol):
    """Hears of what a lane does; called in its thread, so it must be quick."""

    def batch_done(self, encoder: str, rows: int, seconds: float, waited_s: Sequence[float]) -> None:
        """A batch was computed; `waited_s` has the time that each of its requests was in the queue."""
        ...


@dataclass(frozen=True)
class _Request:
    rows: pa.RecordBatch
    answer: asyncio.Future[Encoded]
    loop: asyncio.AbstractEventLoop
    arrived: float


class Lane:
    """Embeds the rows of many requests at once."""

    def __init__(self, encoder: Encoder, spec: ServingSpec, observer: LaneObserver | None = None) -> None:
        """Start the thread."""
        self.encoder = encoder
        self._spec = spec
        self._observer = observer
        self._waiting: deque[_Request] = deque()
        self._rows_inside = 0  # waiting, or being computed
        self._seconds_a_row = FIRST_GUESS_S
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=f"lane-{encoder.name}", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread is there."""
        return self._thread.is_alive()

    @property
    def rows_inside(self) -> int:
        """Rows that wait or are computed."""
        return self._rows_inside

    async def embed(self, rows: pa.RecordBatch) -> Encoded:
        """Embed rows, together with those of other requests.

        Raises:
            Overloaded: Too many rows wait already, or these would wait for too long.
            CatalogError: A column is absent or of a wrong type.
            ModelError: The model failed.
        """
        loop = asyncio.get_running_loop()
        request = _Request(rows, loop.create_future(), loop, time.monotonic())
        with self._changed:
            self._admit(rows.num_rows)
            self._waiting.append(request)
            self._rows_inside += rows.num_rows
            self._changed.notify()
        return await request.answer

    def close(self) -> None:
        """Answer what waits, end the thread, and the encoder's processes."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(CLOSING_S)
        self.encoder.close()

    def _admit(self, rows: int) -> None:
        wait_s = self._rows_inside * self._seconds_a_row
        full = self._rows_inside and self._rows_inside + rows > self._spec.queue_rows
        if full or wait_s > self._spec.wait_s or self._closed:
            raise Overloaded(
                f"encoder {self.encoder.name}: {self._rows_inside} rows are in the queue",
                hint="ask again later",
                retry_after_s=max(1, math.ceil(wait_s)),
            )

    def _work(self) -> None:
        while batch := self._next_batch():
            started = time.monotonic()
            outcomes = self._outcomes(batch)
            rows = sum(request.rows.num_rows for request in batch)
            seconds = time.monotonic() - started
            with self._changed:
                self._rows_inside -= rows
                self._seconds_a_row += NEWEST_SHARE * (seconds / max(rows, 1) - self._seconds_a_row)
            for request, outcome in zip(batch, outcomes, strict=True):
                _settle(request, outcome)
            if self._observer is not None:
                waited_s = [started - request.arrived for request in batch]
                self._observer.batch_done(self.encoder.name, rows, seconds, waited_s)

    def _next_batch(self) -> list[_Request]:
        """The oldest request and those behind it that fit beside it; none once a closed lane is empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if not self._waiting:
                return []
            batch, rows = [self._waiting.popleft()], 0
            schema, rows = batch[0].rows.schema, batch[0].rows.num_rows
            while (
                self._waiting
                and self._waiting[0].rows.schema == schema
                and rows + self._waiting[0].rows.num_rows <= self._spec.batch_rows
            ):
                batch.append(self._waiting.popleft())
                rows += batch[-1].rows.num_rows
            return batch

    def _outcomes(self, batch: Sequence[_Request]) -> Sequence[Encoded | Exception]:
        try:
            return self._encode(batch)
        except Exception as error:  # noqa: BLE001 - it belongs to the requests, and the thread lives on
            if len(batch) == 1 or not isinstance(error, EmbedmillError):
                return [error] * len(batch)
            return [self._outcomes([request])[0] for request in batch]  # each is blamed for its own rows

    def _encode(self, requests: Sequence[_Request]) -> list[Encoded]:
        rows = pa.Table.from_batches([request.rows for request in requests]).combine_chunks().to_batches()
        encoded = self.encoder.encode(rows[0] if rows else requests[0].rows)
        return list(_cut(encoded, [request.rows.num_rows for request in requests]))


def _cut(encoded: Encoded, sizes: Sequence[int]) -> list[Encoded]:
    """What was made of rows that stood behind each other, for each request by itself."""
    found, start = [], 0
    for size in sizes:
        end = start + size
        rejected = {row - start: why for row, why in encoded.rejected.items() if start <= row < end}
        found.append(Encoded(encoded.vectors_ND[start:end], rejected))
        start = end
    return found


def _settle(request: _Request, outcome: Encoded | Exception) -> None:
    def settle() -> None:
        if request.answer.done():
            return
        if isinstance(outcome, Exception):
            request.answer.set_exception(outcome)
        else:
            request.answer.set_result(outcome)

    with suppress(RuntimeError):  # the loop is closed: nobody waits any more
        request.loop.call_soon_threadsafe(settle)
