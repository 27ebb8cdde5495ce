"""Callers that ask a server for embeddings or hits, each waiting for its answer, for some seconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
import numpy as np

Ask = Callable[[int], dict[str, Any]]
"""The body of the n-th request."""


@dataclass(frozen=True)
class Measured:
    """Answers a second, and milliseconds of one."""

    rate: float
    p50_ms: float
    p99_ms: float

    @classmethod
    def of(cls, seconds: list[float], took_s: float) -> Measured:
        p50, p99 = 1000 * np.percentile(seconds, [50, 99])
        return cls(len(seconds) / took_s, float(p50), float(p99))


def ask_for(url: str, ask: Ask, callers: int, seconds: float, first: int = 0) -> list[float]:
    """Seconds of each answer; every request is another one, from number `first` on."""
    return asyncio.run(_ask_for(url, ask, callers, seconds, first))


async def _ask_for(url: str, ask: Ask, callers: int, seconds: float, first: int) -> list[float]:
    found: list[float] = []
    number, end = first, time.monotonic() + seconds
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def call() -> None:
            nonlocal number
            while time.monotonic() < end:
                number += 1
                started = time.monotonic()
                async with session.post(url, json=ask(number)) as answer:
                    body = await answer.read()
                if answer.status != 200:
                    raise SystemExit(f"{url}: {answer.status}: {body[:500]!r}")
                found.append(time.monotonic() - started)

        await asyncio.gather(*(call() for _ in range(callers)))
    return found
