"""Finds how a machine computes an encoder's texts fastest: by trying, on real rows, for seconds.

Tokens of a batch first, with a session a core: from the default on, larger and then smaller ones, for as long
as they are faster. Then, with the best of them, fewer sessions of more threads.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import TYPE_CHECKING

from embedmill.errors import ModelError, OutOfMemory
from embedmill.memory import SPARE_BYTES, memory_left
from embedmill.model.batches import pack
from embedmill.model.encoder import Encoder
from embedmill.model.lanes import session_bytes
from embedmill.spec.calibration import Measured, Setting

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pyarrow as pa

    from embedmill.types import Rows

BUDGETS = (128, 256, 512, 1024, 2048, 4096)
"""Tokens of a batch that are tried."""
GAIN = 1.05
"""So many times faster must a setting be than the best one before it: less is noise."""
LIMIT_S, SLICE_S = 6.0, 0.4
"""What all of it may take, beside the batches in hand; and one measurement."""
SPREAD = 0.6180339887
"""Multiples of it, modulo 1, cover batches from short to long evenly, however many are tried."""


def settings_beside(first: Setting, budgets: Sequence[int]) -> tuple[list[Setting], list[Setting]]:
    """What is tried with other budgets: larger ones, then smaller ones, nearest first."""
    larger = [each for each in budgets if each > first.batch_tokens]
    smaller = [each for each in reversed(budgets) if each < first.batch_tokens]
    return [_with(first, each) for each in larger], [_with(first, each) for each in smaller]


def layouts_beside(best: Setting) -> list[Setting]:
    """The same cores with fewer sessions of more threads: two each, and all in one."""
    cores = best.sessions * best.threads
    sessions = [each for each in (cores // 2, 1) if 1 <= each < best.sessions and cores % each == 0]
    return [
        best.model_copy(update={"sessions": each, "threads": cores // each})
        for each in dict.fromkeys(sessions)
    ]


def search(
    first: Setting,
    measure: Callable[[Setting], float | None],
    *,
    budgets: Sequence[int] = BUDGETS,
    layouts: bool = True,
) -> tuple[Setting, tuple[Measured, ...]]:
    """The fastest setting that is found, and all that was measured.

    Args:
        first: Where to begin; it is what remains unless another one is surely faster.
        measure: Items a second of a setting; None once there is no time.
        budgets: Tokens of a batch that may be tried.
        layouts: Whether fewer sessions of more threads are tried.
    """
    rates: dict[Setting, float] = {}

    def rate(setting: Setting) -> float:
        found = measure(setting)
        if found is not None:
            rates[setting] = max(rates.get(setting, 0.0), found)
        return found or 0.0

    def is_faster(setting: Setting, best: Setting) -> bool:
        """Twice, one beside the other: so that a moment in which others were at work decides nothing."""
        return rate(setting) > GAIN * rates[best] and 0 < GAIN * rate(best) < rate(setting)

    def climbed(settings: Sequence[Setting], best: Setting) -> Setting:
        for setting in settings:
            if not is_faster(setting, best):
                break
            best = setting
        return best

    best = first
    if rate(first):
        larger, smaller = settings_beside(first, budgets)
        best = climbed(larger, best)
        best = climbed(smaller, best) if best == first else best
        best = climbed(layouts_beside(best) if layouts else [], best)
    return best, tuple(Measured(setting=each, items_per_s=round(per_s, 1)) for each, per_s in rates.items())


class Bench:
    """Measures settings of an encoder on some rows; leaving its `with` block lets go of all sessions.

    Each session is an encoder of its own, as each worker loop has one, in a thread of its own. Only sessions
    of one number of threads are there at once, and none is loaded that memory may be too short for.

    `late`: something was not measured since time was up; `short`: since memory was short.
    """

    def __init__(
        self,
        encoder: Encoder,
        rows: pa.RecordBatch,
        clock: Callable[[], float],
        left: Callable[[], int] = memory_left,
    ) -> None:
        """Tokenize the rows, by an encoder of one thread.

        `clock` tells seconds, from now to LIMIT_S on; `left` the bytes of memory that there still are.
        """
        self.late = self.short = False
        self._ends_s, self._clock = clock() + LIMIT_S, clock
        self._prepared = encoder.prepare(rows).prepared
        self._lengths = self._prepared.lengths(rows.num_rows)
        self._rows_per_token = rows.num_rows / max(1, int(self._lengths.sum()))
        self._encoder, self._left = encoder, left
        self._loaded: list[Encoder] = []  # beside the one that is the caller's
        self._session_bytes = session_bytes(encoder.package)
        self._most_taken_bytes = 0
        self._slowest_s_per_token = 0.0

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *raised: object) -> None:
        self._let_go()

    def rate(self, setting: Setting) -> float | None:
        """Items a second of all its sessions together; 0 where it cannot compute.

        None where time is up or memory is short.
        """
        batches = pack(self._lengths, setting.batch_tokens, mixed=self._encoder.binding.masked)
        takes_s = max(SLICE_S, setting.batch_tokens * self._slowest_s_per_token)
        try:
            sessions = self._sessions_of(setting, until_s=self._ends_s - takes_s)
            if len(sessions) < setting.sessions or not self._has_memory(2 * self._most_taken_bytes):
                return None
            before_bytes = self._left()
            with ThreadPoolExecutor(setting.sessions) as pool:
                found = list(pool.map(lambda each: self._tokens_per_s(each, batches), sessions))
        except (ModelError, MemoryError) as error:
            self.short |= isinstance(error, OutOfMemory | MemoryError)
            return 0.0
        self._most_taken_bytes = max(self._most_taken_bytes, before_bytes - self._left())
        self._slowest_s_per_token = max(self._slowest_s_per_token, 1 / max(min(found), 1e-9))
        return float(sum(found) * self._rows_per_token)

    def _sessions_of(self, setting: Setting, until_s: float) -> list[Encoder]:
        """So many encoders, or fewer where loading them takes too long or more memory than there is."""
        if any(each.profile.threads != setting.threads for each in self._loaded):
            self._let_go()
        first = [self._encoder] if setting.threads == 1 else []
        package, name = self._encoder.package, self._encoder.name
        while len(first) + len(self._loaded) < setting.sessions:
            if not self._has_time(until_s) or not self._has_memory(self._session_bytes):
                return []
            self._loaded.append(Encoder.load(package, name, threads=setting.threads, compared=False))
        return [*first, *self._loaded][: setting.sessions] if self._has_time(until_s) else []

    def _has_time(self, until_s: float) -> bool:
        over = self._clock() >= until_s
        self.late |= over
        return not over

    def _has_memory(self, size_bytes: int) -> bool:
        """For so many bytes more: of a session twice its model, of a look twice what one took before."""
        lacking = self._left() < size_bytes + SPARE_BYTES
        self.short |= lacking
        return not lacking

    def _let_go(self) -> None:
        for each in self._loaded:
            each.close()
        self._loaded.clear()

    def _tokens_per_s(self, encoder: Encoder, batches: Sequence[Rows]) -> float:
        """Of one session, without padding: batches of all lengths, for SLICE_S or one batch."""
        tokens, began_s = 0, self._clock()
        for number in count():
            batch = batches[int(number * SPREAD % 1.0 * len(batches))]
            fed = encoder.binding.feed(self._prepared, batch)
            if len(fed.rows):
                encoder.runtime.run(fed.feeds)
            tokens += int(self._lengths[batch].sum())
            took_s = self._clock() - began_s
            if took_s >= SLICE_S:
                break
        return tokens / took_s


def _with(setting: Setting, batch_tokens: int) -> Setting:
    return setting.model_copy(update={"batch_tokens": batch_tokens})
