from __future__ import annotations

import asyncio
import threading
import time

import pytest

from embedmill.errors import Overloaded
from embedmill.serving.search.searching import Searching
from embedmill.spec import ServingSpec

pytestmark = pytest.mark.anyio


async def test_so_many_searches_wait_and_no_more() -> None:
    searching = Searching(2, ServingSpec(max_searches=3))
    go = threading.Event()
    running = [asyncio.ensure_future(searching.run(go.wait)) for _ in range(8)]
    await asyncio.sleep(0.05)
    refused = [each for each in running if each.done()]
    assert len(refused) == 3
    assert all(isinstance(each.exception(), Overloaded) for each in refused)
    assert searching.waiting == 3
    go.set()
    await asyncio.gather(*running, return_exceptions=True)
    assert await searching.run(lambda: 7) == 7
    searching.close()


async def test_searches_that_would_wait_for_long_are_refused_before_the_queue_is_full() -> None:
    searching = Searching(1, ServingSpec(max_searches=1000, wait_s=0.3))
    for _ in range(3):
        await searching.run(lambda: time.sleep(0.05))
    answers = await asyncio.gather(
        *(searching.run(lambda: time.sleep(0.05)) for _ in range(50)), return_exceptions=True
    )
    assert 2 <= sum(answer is None for answer in answers) <= 12
    searching.close()


async def test_a_search_that_nobody_waits_for_is_not_done() -> None:
    searching = Searching(1, ServingSpec())
    go, done = threading.Event(), []
    first = asyncio.ensure_future(searching.run(go.wait))
    second = asyncio.ensure_future(searching.run(lambda: done.append(2)))
    await asyncio.sleep(0.05)
    second.cancel()
    await asyncio.sleep(0)
    go.set()
    assert await first
    assert await searching.run(lambda: 7) == 7
    assert not done
    searching.close()
