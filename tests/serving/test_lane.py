from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest
from tests.serving.slow import Killed, Slow, slow_encoder

from embedmill.errors import CatalogError, Overloaded, RequestRefused
from embedmill.model import Encoder, ModelPackage
from embedmill.release.reader import Release
from embedmill.serving.lanes.cache import VectorCache
from embedmill.serving.lanes.lane import Lane
from embedmill.spec import ServingSpec
from embedmill.types import Encoded

pytestmark = pytest.mark.anyio

SECONDS = 5.0


@pytest.fixture
def encoder(published: Release) -> Encoder:
    return Encoder.load(ModelPackage.open(published.model_folder), "query_text")


@pytest.fixture
def lane(encoder: Encoder) -> Iterator[Lane]:
    found = Lane(encoder, ServingSpec(queue_rows=100, patience=1e6, wait_s=60))
    yield found
    found.close()


@pytest.fixture
def slow(published: Release) -> Iterator[tuple[Lane, Slow]]:
    """A lane whose model takes 10 ms a row, in batches of at most 16."""
    encoder, runtime = slow_encoder(published, each_s=0.01)
    found = Lane(encoder, ServingSpec(batch_rows=16, queue_rows=10_000, wait_s=60, patience=1e6))
    yield found, runtime
    runtime.works.set()
    found.close()


def texts(encoder: Encoder, *values: str) -> pa.RecordBatch:
    return pa.record_batch({encoder.fields[0]: pa.array(values, pa.string())})


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


async def test_a_full_queue_says_so_at_once(lane: Lane, encoder: Encoder) -> None:
    requests = [lane.embed(texts(encoder, *["word"] * 30)) for _ in range(10)]
    answers = await asyncio.gather(*requests, return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, Overloaded)]
    assert 1 <= len(refused) < 10
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
    large = asyncio.ensure_future(lane.embed(texts(lane.encoder, *["large"] * 200)))
    await asyncio.sleep(0.05)
    small = await asyncio.gather(*(lane.embed(texts(lane.encoder, f"small {n}")) for n in range(4)))
    assert all(answer.vectors_ND.shape[0] == 1 for answer in small)
    assert sum(runtime.batches) <= 4 * 16  # of 204: the batch that ran, and one or two that they were in
    assert (await large).vectors_ND.shape[0] == 200
    assert sum(runtime.batches) == 204


async def test_what_nobody_waits_for_is_not_computed(slow: tuple[Lane, Slow]) -> None:
    lane, runtime = slow
    requests = [asyncio.ensure_future(lane.embed(texts(lane.encoder, *["word"] * 10))) for _ in range(10)]
    await asyncio.sleep(0.02)
    for request in requests[2:]:
        request.cancel()
    await asyncio.gather(*requests, return_exceptions=True)
    await lane.embed(texts(lane.encoder, "last"))
    assert sum(runtime.batches) <= 4 * 16 + 1  # of 101
    assert lane.rows_inside == 0


async def test_a_lane_that_is_killed_lets_nobody_wait(slow: tuple[Lane, Slow]) -> None:
    lane, runtime = slow
    runtime.works.clear()
    requests = [asyncio.ensure_future(lane.embed(texts(lane.encoder, *["word"] * 10))) for _ in range(3)]
    await asyncio.sleep(0.05)
    runtime.fails_with = Killed()
    runtime.works.set()
    answers = await asyncio.gather(*requests, return_exceptions=True)
    assert {answer.status for answer in answers if isinstance(answer, Overloaded)} == {503}
    assert not any(isinstance(answer, Encoded) for answer in answers)
    await asyncio.sleep(0.5)
    assert not lane.alive


async def test_a_lane_that_hangs_refuses_what_comes(published: Release) -> None:
    encoder, runtime = slow_encoder(published)
    lane = Lane(encoder, ServingSpec(wait_s=0.2))
    await lane.embed(texts(encoder, "before"))
    runtime.works.clear()
    hanging = asyncio.ensure_future(lane.embed(texts(encoder, "during")))
    await asyncio.sleep(0.5)
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
async def test_who_is_let_in_waits_not_much_longer_however_many_ask(
    published: Release, fixed_s: float, each_s: float
) -> None:
    encoder, _ = slow_encoder(published, fixed_s=fixed_s, each_s=each_s)
    lane = Lane(encoder, ServingSpec())
    capacity = 32 / (fixed_s + each_s * 32)
    rng = np.random.default_rng(5)
    longer: list[float] = []
    while not longer or (min(longer) > 2.5 and len(longer) < 4):  # a machine that has others may be late
        usual, _ = await arrivals(lane, rng, 0.7 * capacity, SECONDS)
        let_in, refused = await arrivals(lane, rng, 10 * capacity, SECONDS)
        longer.append(float(np.percentile(let_in, 99) / np.percentile(usual, 99)))
    assert min(longer) <= 2.5
    assert refused > 4 * len(let_in)
    assert len(let_in) > 0.5 * SECONDS * capacity
    lane.close()


async def arrivals(
    lane: Lane, rng: np.random.Generator, rate: float, seconds: float
) -> tuple[list[float], int]:
    """Seconds of requests that arrive at random, `rate` a second, and how many were refused."""
    found: list[float] = []
    refused = 0

    async def one() -> None:
        nonlocal refused
        came = time.monotonic()
        try:
            await lane.embed(texts(lane.encoder, "word"))
        except Overloaded:
            refused += 1
        else:
            found.append(time.monotonic() - came)

    started, due, tasks = time.monotonic(), 0.0, []
    while due < seconds:
        due += rng.exponential(1 / rate)
        await asyncio.sleep(max(0.0, started + due - time.monotonic()))
        tasks.append(asyncio.ensure_future(one()))
    await asyncio.gather(*tasks)
    return found, refused
