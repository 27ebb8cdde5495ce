from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pytest
from tests.serving.slow import Killed, Slow, slow_encoder
from tests.support.patience import PATIENCE_S

from embedmill.errors import CatalogError, Overloaded, RequestRefused
from embedmill.model import Encoder, ModelPackage
from embedmill.release.reader import Release
from embedmill.serving.lanes.cache import VectorCache
from embedmill.serving.lanes.lane import Lane
from embedmill.spec import ServingSpec
from embedmill.types import Encoded

pytestmark = pytest.mark.anyio

SECONDS = 20.0
"""Of the callers' clock."""


@pytest.fixture
def encoder(published: Release) -> Encoder:
    return Encoder.load(ModelPackage.open(published.model_folder), "query_text")


@pytest.fixture
def lane(encoder: Encoder) -> Iterator[Lane]:
    found = Lane(encoder, ServingSpec(queue_rows=100, patience=1e6, wait_s=600))
    yield found
    found.close()


@pytest.fixture
def slow(published: Release) -> Iterator[tuple[Lane, Slow]]:
    """A lane whose model takes 10 ms a row, in batches of at most 16, once a test lets it compute."""
    encoder, runtime = slow_encoder(published, each_s=0.01)
    runtime.works.clear()
    found = Lane(encoder, ServingSpec(batch_rows=16, queue_rows=100, wait_s=600, patience=1e6))
    yield found, runtime
    runtime.works.set()
    found.close()


def texts(encoder: Encoder, *values: str) -> pa.RecordBatch:
    return pa.record_batch({encoder.fields[0]: pa.array(values, pa.string())})


def refusal_of(lane: Lane) -> str:
    """Why one row more would be refused now; "" if it would not be."""
    try:
        lane.check_room(0)
    except Overloaded as error:
        return str(error)
    return ""


async def until(done: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < deadline_s, what
        await asyncio.sleep(0.01)


async def test_many_requests_at_once_get_each_its_own_vectors(lane: Lane, encoder: Encoder) -> None:
    words = [f"item {n}" for n in range(60)]
    answers = await asyncio.gather(*(lane.embed(texts(encoder, word)) for word in words))
    alone = encoder.encode_texts(words)
    np.testing.assert_allclose(np.concatenate([a.vectors_ND for a in answers]), alone, atol=1e-5)


async def test_a_request_of_many_batches_gets_its_vectors_in_order(lane: Lane, encoder: Encoder) -> None:
    words = [f"item {n}" for n in range(100)]
    answer = await lane.embed(texts(encoder, *words))
    np.testing.assert_allclose(answer.vectors_ND, encoder.encode_texts(words), atol=1e-5)


async def test_no_rows_have_no_vectors(lane: Lane, encoder: Encoder) -> None:
    assert (await lane.embed(texts(encoder))).vectors_ND.shape == (0, encoder.dimension)


async def test_a_full_queue_says_so_at_once(slow: tuple[Lane, Slow]) -> None:
    lane, runtime = slow
    rows = texts(lane.encoder, *["word"] * 30)
    requests = [asyncio.ensure_future(lane.embed(rows)) for _ in range(10)]
    done, _ = await asyncio.wait(requests, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
    assert done, "no request was refused"
    assert all(isinstance(request.exception(), Overloaded) for request in done)
    runtime.works.set()
    answers = await asyncio.gather(*requests, return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, Overloaded)]
    assert len(refused) == 7
    assert all(answer.retry_after_s >= 1 for answer in refused)
    assert lane.rows_inside == 0


async def test_a_request_that_fails_harms_no_other(lane: Lane, encoder: Encoder) -> None:
    wrong = pa.record_batch({"colour": pa.array(["red"])})
    good = [lane.embed(texts(encoder, f"item {n}")) for n in range(5)]
    answers = await asyncio.gather(good[0], lane.embed(wrong), *good[1:], return_exceptions=True)
    assert isinstance(answers.pop(1), CatalogError)
    assert all(not isinstance(answer, BaseException) for answer in answers)
    assert lane.alive


async def test_a_closed_lane_answers_what_waits_and_takes_no_more(lane: Lane, encoder: Encoder) -> None:
    waiting = asyncio.ensure_future(lane.embed(texts(encoder, "item 1")))
    await asyncio.sleep(0)
    await asyncio.get_running_loop().run_in_executor(None, lane.close)
    assert (await waiting).vectors_ND.shape == (1, encoder.dimension)
    with pytest.raises(Overloaded):
        await lane.embed(texts(encoder, "item 2"))


async def test_a_small_request_is_not_behind_a_large_one(slow: tuple[Lane, Slow]) -> None:
    lane, runtime = slow
    large = lane.submit(texts(lane.encoder, *["large"] * 96))
    small = [lane.submit(texts(lane.encoder, f"small {n}")) for n in range(4)]
    computed: list[int] = []
    for request in small:
        request.add_done_callback(lambda _: computed.append(sum(runtime.batches)))
    runtime.works.set()
    assert len((await asyncio.wrap_future(large)).vectors_ND) == 96
    assert [len(request.result().vectors_ND) for request in small] == [1] * 4
    assert max(computed) <= 3 * 16  # of 100: the batch that ran, and one or two that they were in
    assert sum(runtime.batches) == 100


async def test_what_nobody_waits_for_is_not_computed(slow: tuple[Lane, Slow]) -> None:
    lane, runtime = slow
    requests = [asyncio.ensure_future(lane.embed(texts(lane.encoder, *["word"] * 10))) for _ in range(10)]
    await asyncio.sleep(0)
    for request in requests[2:]:
        request.cancel()
    await asyncio.gather(*requests[2:], return_exceptions=True)
    runtime.works.set()
    await asyncio.gather(*requests[:2])
    await lane.embed(texts(lane.encoder, "last"))
    assert sum(runtime.batches) <= 2 * 16 + 1  # of 101: what was begun before, the two, and the last
    assert lane.rows_inside == 0


async def test_a_lane_that_is_killed_lets_nobody_wait(slow: tuple[Lane, Slow]) -> None:
    lane, runtime = slow
    requests = [asyncio.ensure_future(lane.embed(texts(lane.encoder, *["word"] * 10))) for _ in range(3)]
    await asyncio.sleep(0.05)
    runtime.fails_with = Killed()
    runtime.works.set()
    answers = await asyncio.gather(*requests, return_exceptions=True)
    assert {answer.status for answer in answers if isinstance(answer, Overloaded)} == {503}
    assert not any(isinstance(answer, Encoded) for answer in answers)
    await until(lambda: not lane.alive, "it has told them, and ends")


async def test_a_lane_that_hangs_refuses_what_comes(published: Release) -> None:
    encoder, runtime = slow_encoder(published)
    lane = Lane(encoder, ServingSpec(wait_s=0.2))
    await lane.embed(texts(encoder, "before"))
    runtime.works.clear()
    hanging = asyncio.ensure_future(lane.embed(texts(encoder, "during")))
    await until(lambda: "one batch for" in refusal_of(lane), "it says how long it has hung")
    with pytest.raises(Overloaded, match="one batch for") as refused:
        await lane.embed(texts(encoder, "meanwhile"))
    assert refused.value.status == 503
    runtime.works.set()
    assert (await hanging).vectors_ND.shape[0] == 1
    assert (await lane.embed(texts(encoder, "after"))).vectors_ND.shape[0] == 1
    lane.close()


async def test_what_is_urgent_passes_a_full_queue(published: Release) -> None:
    encoder, runtime = slow_encoder(published)
    lane = Lane(encoder, ServingSpec(batch_rows=1, queue_rows=1))
    runtime.works.clear()
    waiting = [asyncio.ensure_future(lane.embed(texts(encoder, f"item {n}"))) for n in range(5)]
    await asyncio.sleep(0.05)
    urgent = asyncio.wrap_future(lane.submit(texts(encoder, "urgent"), urgent=True))
    runtime.works.set()
    assert len((await urgent).vectors_ND) == 1
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert sum(isinstance(answer, Overloaded) for answer in answers) >= 3
    lane.close()


async def test_requests_that_are_too_large_are_refused(encoder: Encoder) -> None:
    lane = Lane(encoder, ServingSpec(max_inputs=3, max_characters=10))
    for rows in (texts(encoder, *"abcd"), texts(encoder, "a", "b" * 11)):
        with pytest.raises(RequestRefused) as refused:
            await lane.embed(rows)
        assert refused.value.status == 413
    assert len((await lane.embed(texts(encoder, "a", "b" * 10, "ä" * 10))).vectors_ND) == 3
    lane.close()


async def test_a_text_that_was_asked_for_is_not_computed_again(published: Release) -> None:
    encoder, runtime = slow_encoder(published)
    cache = VectorCache(100_000)
    lane = Lane(encoder, ServingSpec(), cache=cache)
    first, second = [await lane.embed(texts(encoder, "warm jacket")) for _ in range(2)]
    np.testing.assert_array_equal(first.vectors_ND, second.vectors_ND)
    assert (sum(runtime.batches), cache.counts.hits, cache.counts.misses) == (1, 1, 1)
    await lane.embed(texts(encoder, "warm jacket", "rain coat"))
    assert sum(runtime.batches) == 3  # only requests for one text are looked up
    lane.close()


def test_a_cache_forgets_the_oldest_and_stays_within_its_bytes() -> None:
    cache = VectorCache(10_000)
    for number in range(100):
        cache.put(f"text {number}", np.full((1, 64), number, np.float32))
        cache.get("text 0")
    assert cache.counts.size_bytes <= 10_000
    assert cache.get("text 0") is not None
    assert cache.get("text 1") is None
    cache.put("large", np.zeros((1, 10_000), np.float32))
    assert cache.get("large") is None
    newest = cache.get("text 99")
    assert newest is not None
    assert newest[0, 0] == 99


@pytest.mark.parametrize(
    ("fixed_s", "each_s"), [(0.0, 0.02), (0.2, 0.001)], ids=["each row costs", "each batch costs"]
)
def test_who_is_let_in_waits_not_much_longer_however_many_ask(
    published: Release, fixed_s: float, each_s: float
) -> None:
    encoder, runtime = slow_encoder(published, fixed_s=fixed_s, each_s=each_s)
    callers = Callers()
    runtime.sleep = callers.come_for
    lane = Lane(encoder, ServingSpec(), clock=lambda: callers.now_s)
    capacity = 32 / (fixed_s + each_s * 32)
    rng = np.random.default_rng(5)
    usual, _ = callers.ask(lane, rng, 0.7 * capacity, SECONDS)
    let_in, refused = callers.ask(lane, rng, 10 * capacity, SECONDS)
    assert np.percentile(let_in, 99) <= 2.5 * np.percentile(usual, 99)
    assert refused > 4 * len(let_in)
    assert len(let_in) > 0.5 * SECONDS * capacity
    lane.close()


class Callers:
    """They come at random moments of a clock that goes on only while the model computes, or nobody waits."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._due: deque[float] = deque()
        self._waited_s: list[float] = []
        self._refused = self._inside = 0
        self._comes = threading.RLock()  # nothing is computed before who came listens to the answer

    def ask(
        self, lane: Lane, rng: np.random.Generator, rate: float, seconds: float
    ) -> tuple[list[float], int]:
        """Seconds that requests waited of which `rate` come a second, and how many were refused."""
        self._lane, self._rows = lane, texts(lane.encoder, "word")
        self._waited_s, self._refused = [], 0
        gaps = rng.exponential(1 / rate, int(rate * seconds))
        self._due = deque((self.now_s + np.cumsum(gaps)).tolist())
        while self._due:
            with self._comes:
                self._come()
            deadline_s = time.monotonic() + PATIENCE_S
            while self._inside:
                assert time.monotonic() < deadline_s, f"{self._inside} requests were never answered"
                time.sleep(0.001)  # the lane's thread lets the clock go on
        return self._waited_s, self._refused

    def come_for(self, seconds: float) -> None:
        """So long the model computes."""
        with self._comes:
            end_s = self.now_s + seconds
            while self._due and self._due[0] <= end_s:
                self._come()
            self.now_s = end_s

    def _come(self) -> None:
        self.now_s = came_s = self._due.popleft()

        def answered(_: object) -> None:
            self._waited_s.append(self.now_s - came_s)
            self._inside -= 1

        self._inside += 1
        try:
            self._lane.submit(self._rows).add_done_callback(answered)
        except Overloaded:
            self._refused += 1
            self._inside -= 1
