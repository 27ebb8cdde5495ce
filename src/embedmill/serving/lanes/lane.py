"""A lane: one encoder, one thread that computes, and the requests that wait for it.

    request ─▶ embed ─▶ queue (bounded, fair) ─▶ thread: what fits into a batch ─▶ Encoder.encode ─▶ answers

Requests that arrive while the model computes make the next batch: nobody waits for a batch to fill. The
encoder itself puts rows of about one length together. Requests whose client has gone are dropped uncomputed.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embedmill.errors import EmbedmillError, Overloaded, RequestRefused
from embedmill.serving.lanes.fair import FairQueue, Waiting
from embedmill.serving.lanes.pace import Pace, longest_wait_s
from embedmill.serving.observing.facts import facts
from embedmill.types import Encoded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from embedmill.model import Encoder
    from embedmill.serving.lanes.cache import VectorCache
    from embedmill.serving.lanes.fair import Piece
    from embedmill.spec import ServingSpec

log = logging.getLogger("embedmill.serving")

CLOSING_S = 10.0
TOO_LARGE = 413


class LaneObserver(Protocol):
    """Hears of what a lane does; called in its thread, so it must be quick."""

    def batch_prepared(self, encoder: str, seconds: float) -> None:
        """A batch was tokenized and its values read."""
        ...

    def batch_done(self, encoder: str, rows: int, seconds: float, waited_s: Sequence[float]) -> None:
        """A batch was computed; `waited_s` has, for each request that began in it, its time in the queue."""
        ...


class Lane:
    """Embeds the rows of many requests at once."""

    def __init__(
        self,
        encoder: Encoder,
        spec: ServingSpec,
        observer: LaneObserver | None = None,
        cache: VectorCache | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start the thread. A `cache` needs an encoder that reads one text; `clock` tells seconds."""
        self.encoder = encoder
        self.cache = cache
        self.pace = Pace(spec.batch_rows)
        self._clock = clock
        self._spec = spec
        self._observer = observer
        self._waiting = FairQueue()
        self._computing = 0  # rows of the batch in the model
        self._since = self._clock()  # when that batch began
        self._idle_at = self._clock()  # when nothing was left to do
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=f"lane-{encoder.name}", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread is there."""
        return self._thread.is_alive()

    @property
    def rows_inside(self) -> int:
        """Rows that wait or are computed."""
        with self._changed:
            return self._waiting.rows + self._computing

    async def embed(self, rows: pa.RecordBatch) -> Encoded:
        """Embed rows, together with those of other requests. To cancel this frees the place in the queue.

        Raises:
            RequestRefused: There are more rows, or longer texts, than a request may have.
            Overloaded: Too many rows wait already, these would wait for too long, or the model hangs.
            CatalogError: A column is absent or of a wrong type.
            ModelError: The model failed.
        """
        noted = facts()
        noted.rows += rows.num_rows
        try:
            self._check(rows)
            return await self._embed(rows)
        except (Overloaded, RequestRefused) as error:
            noted.reason = error.reason
            noted.queue = self if isinstance(error, Overloaded) else None
            raise

    async def _embed(self, rows: pa.RecordBatch) -> Encoded:
        if rows.num_rows == 0:
            return Encoded(np.zeros((0, self.encoder.dimension), np.float32), {})
        text = self._cached_text(rows)
        if text is None or self.cache is None:
            return await asyncio.wrap_future(self.submit(rows))
        known = self.cache.get(text)
        if known is not None:
            return Encoded(known, {})
        made = await asyncio.wrap_future(self.submit(rows))
        if not made.rejected:
            self.cache.put(text, made.vectors_ND)
        return made

    def submit(self, rows: pa.RecordBatch, *, urgent: bool = False) -> Future[Encoded]:
        """Put rows, at least one, into the queue; an urgent request is never refused, and goes first.

        Raises:
            Overloaded: See `embed`.
        """
        request = Waiting(rows, self._clock())
        with self._changed:
            if not urgent:
                self._admit(rows.num_rows)
                self.pace.request_came(rows.num_rows)
            elif self._closed:
                raise self._stuck("is closed")
            self._waiting.add(request, first=urgent)
            self._changed.notify()
        return request.answer

    def close(self) -> None:
        """Answer what waits, end the thread, and the encoder's processes."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(CLOSING_S)
        self.encoder.close()

    @property
    def idle(self) -> bool:
        """See `BoundedQueue`."""
        return self._closed or self.rows_inside == 0

    def check_room(self, on_the_way: int) -> None:
        """See `BoundedQueue`."""
        with self._changed:
            self._admit(1, on_the_way)

    def _check(self, rows: pa.RecordBatch) -> None:
        if rows.num_rows > self._spec.max_inputs:
            raise RequestRefused(
                f"{rows.num_rows} inputs in one request",
                hint=f"at most {self._spec.max_inputs}",
                status=TOO_LARGE,
                reason="inputs",
            )
        longest = max((_longest(column) for column in rows.columns), default=0)
        if longest > self._spec.max_characters:
            raise RequestRefused(
                f"a text has {longest} characters",
                hint=f"at most {self._spec.max_characters}",
                status=TOO_LARGE,
                reason="characters",
            )

    def _cached_text(self, rows: pa.RecordBatch) -> str | None:
        """The text of a request for one, which may be in the cache."""
        if self.cache is None or rows.num_rows != 1 or rows.num_columns != 1:
            return None
        text = rows.column(0)[0].as_py()
        return text if isinstance(text, str) else None

    def _admit(self, rows: int, on_the_way: int = 0) -> None:
        """Refuse at once what would be answered too late; `on_the_way` are rows that will be here before."""
        if self._closed:
            raise self._stuck("is closed")
        now = self._clock()
        expected_s = self.pace.batch_s(self._computing) if self._computing else 0.0
        overdue_s = now - self._since - expected_s if self._computing else 0.0
        if overdue_s > max(self._spec.wait_s, expected_s):
            raise self._stuck(f"has computed one batch for {now - self._since:.0f} s")
        wait_s = max(0.0, expected_s - max(0.0, now - self._since)) if self._computing else 0.0
        wait_s += (self._waiting.ahead_of(rows, self.pace.best_rows) + on_the_way) * self.pace.row_s
        waiting = self._waiting.rows + on_the_way
        full = waiting and waiting + rows > self._spec.queue_rows
        idle_s = now - self._idle_at if waiting else 0.0
        if full or wait_s > longest_wait_s(self.pace, self._spec, idle_s):
            raise Overloaded(
                f"encoder {self.encoder.name}: {waiting + self._computing} rows are in the queue",
                retry_after_s=max(1, math.ceil(wait_s)),
                reason="queue_full" if full else "queue_wait",
            )

    def _stuck(self, what: str) -> Overloaded:
        return Overloaded(f"encoder {self.encoder.name} {what}", status=503, reason="unavailable")

    def _run(self) -> None:
        """Compute until closed; whatever ends the thread, nobody waits for it in vain."""
        try:
            while pieces := self._next_batch():
                self._compute(pieces)
        except BaseException as error:  # noqa: BLE001 - also what is meant to end a process: it must not go unsaid
            log.critical("encoder %s: its thread ends: %r", self.encoder.name, error)
        finally:
            with self._changed:
                self._closed = True
                rest = self._waiting.clear()
            for request in rest:
                request.fail(self._stuck("is closed"))

    def _next_batch(self) -> list[Piece]:
        """Rows to compute; none once a closed lane is empty."""
        with self._changed:
            while True:
                pieces = self._waiting.take(self.pace.best_rows)
                if pieces or self._closed:
                    break
                self._idle_at = self._clock()
                self._changed.wait()
            self._computing = sum(piece.count for piece in pieces)
            self._since = self._clock()
            return pieces

    def _compute(self, pieces: Sequence[Piece]) -> None:
        started = self._since
        try:
            outcomes = self._outcomes(pieces)
        except BaseException:
            for piece in pieces:
                piece.request.fail(self._stuck("is closed"))
            raise
        seconds = self._clock() - started
        rows = self._computing
        with self._changed:
            self._computing = 0
            self.pace.batch_done(rows, seconds)
        for piece, outcome in zip(pieces, outcomes, strict=True):
            if isinstance(outcome, Exception):
                piece.request.fail(outcome)
            else:
                piece.request.add(piece.start, outcome)
        if self._observer is not None:
            waited_s = [started - piece.request.arrived for piece in pieces if piece.start == 0]
            self._observer.batch_done(self.encoder.name, rows, seconds, waited_s)

    def _outcomes(self, pieces: Sequence[Piece]) -> Sequence[Encoded | Exception]:
        try:
            return self._encode(pieces)
        except Exception as error:  # noqa: BLE001 - it belongs to the requests, and the thread lives on
            if len(pieces) == 1 or not isinstance(error, EmbedmillError):
                return [error] * len(pieces)
            return [self._outcomes([piece])[0] for piece in pieces]  # each is blamed for its own rows

    def _encode(self, pieces: Sequence[Piece]) -> list[Encoded]:
        batches = pa.Table.from_batches([piece.rows for piece in pieces]).combine_chunks().to_batches()
        started = self._clock()

        def prepared() -> None:
            if self._observer is not None:
                self._observer.batch_prepared(self.encoder.name, self._clock() - started)

        encoded = self.encoder.encode(batches[0] if batches else pieces[0].rows, on_prepared=prepared)
        return _cut(encoded, [piece.count for piece in pieces])


def _cut(encoded: Encoded, sizes: Sequence[int]) -> list[Encoded]:
    """What was made of rows that stood behind each other, for each request by itself."""
    found, start = [], 0
    for size in sizes:
        end = start + size
        rejected = {row - start: why for row, why in encoded.rejected.items() if start <= row < end}
        found.append(Encoded(encoded.vectors_ND[start:end], rejected))
        start = end
    return found


def _longest(column: pa.Array) -> int:
    """Characters of the longest text in a column; 0 where it has none."""
    while pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        column = column.flatten()
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return 0
    return pc.max(pc.utf8_length(column)).as_py() or 0
