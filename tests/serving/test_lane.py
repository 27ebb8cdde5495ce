from __future__ import annotations

import asyncio
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest

from embedmill.errors import CatalogError, Overloaded
from embedmill.model import Encoder, ModelPackage
from embedmill.release.reader import Release
from embedmill.serving.lane import Lane
from embedmill.spec import ServingSpec

pytestmark = pytest.mark.anyio


@pytest.fixture
def encoder(published: Release) -> Encoder:
    return Encoder.load(ModelPackage.open(published.model_folder), "query_text")


@pytest.fixture
def lane(encoder: Encoder) -> Iterator[Lane]:
    found = Lane(encoder, ServingSpec(queue_rows=100))
    yield found
    found.close()


def texts(encoder: Encoder, *values: str) -> pa.RecordBatch:
    return pa.record_batch({encoder.fields[0]: pa.array(values, pa.string())})


async def test_many_requests_at_once_get_each_its_own_vectors(lane: Lane, encoder: Encoder) -> None:
    words = [f"item {n}" for n in range(60)]
    answers = await asyncio.gather(*(lane.embed(texts(encoder, word)) for word in words))
    alone = encoder.encode_texts(words)
    np.testing.assert_allclose(np.concatenate([a.vectors_ND for a in answers]), alone, atol=1e-5)


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
