"""How long a server is waited for that wants to be asked less often; by a clock of the test's own."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from embedmill.errors import ServerUnavailable
from embedmill.runtimes.remote.base import Unanswered
from embedmill.runtimes.remote.retrying import Retrying


@dataclass
class Clock:
    """Time that passes where somebody sleeps; who begins at one time sleeps at one time."""

    now_s: float = 0.0

    def time(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        until_s = self.now_s + seconds
        for _ in range(10):  # others begin meanwhile
            await asyncio.sleep(0)
        self.now_s = max(self.now_s, until_s)


@dataclass
class Question:
    """Something to ask, that the server refuses so often before it answers."""

    refusals: float
    wait_s: float

    async def __call__(self) -> str:
        if self.refusals:
            self.refusals -= 1
            raise Unanswered("answered 429", wait_s=self.wait_s, limited=True)
        return "yes"


def retrying(clock: Clock, *, limited_for_s: float) -> Retrying:
    return Retrying("http://shop", 20.0, limited_for_s, clock=clock.time, sleep=clock.sleep)


def test_all_questions_together_wait_no_longer_than_one_may() -> None:
    """Each alone would be answered in time, and all of them only after hours."""
    clock = Clock()
    asked, answers = retrying(clock, limited_for_s=600), list[str]()

    async def many() -> None:
        for _ in range(1000):
            answers.append(await asked.ask(Question(refusals=4, wait_s=60)))

    with pytest.raises(ServerUnavailable, match="asked to wait 60 s, after 600 s of waiting") as caught:
        asyncio.run(many())
    assert (answers, clock.now_s) == (["yes"] * 2, 600)
    assert "let this caller ask more often" in str(caught.value.hint)


def test_a_server_that_never_answers_is_left_after_that_time() -> None:
    clock = Clock()
    with pytest.raises(ServerUnavailable, match="wants to be asked less often"):
        asyncio.run(retrying(clock, limited_for_s=600).ask(Question(refusals=float("inf"), wait_s=1)))
    assert clock.now_s == 600


def test_what_is_spent_is_not_waited_again_by_short_waits() -> None:
    """Nor as for a server that is down, with each question."""
    clock = Clock()
    asked = retrying(clock, limited_for_s=10)
    asyncio.run(asked.ask(Question(refusals=1, wait_s=10)))
    with pytest.raises(ServerUnavailable):
        asyncio.run(asked.ask(Question(refusals=1, wait_s=2)))
    assert clock.now_s == 10
    assert asyncio.run(asked.ask(Question(refusals=0, wait_s=2))) == "yes"


def test_a_wait_of_several_questions_at_once_counts_once() -> None:
    clock = Clock()
    asked = retrying(clock, limited_for_s=60)

    async def together() -> list[str]:
        return await asyncio.gather(*(asked.ask(Question(refusals=2, wait_s=30)) for _ in range(8)))

    assert asyncio.run(together()) == ["yes"] * 8
    assert clock.now_s == 60
    with pytest.raises(ServerUnavailable):
        asyncio.run(asked.ask(Question(refusals=1, wait_s=1)))
