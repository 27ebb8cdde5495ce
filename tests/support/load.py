"""A server in a process of its own, and a client that asks at a given rate, whether answers come or not."""

from __future__ import annotations

import asyncio
import gc
import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil

Ask = Callable[[int], dict[str, Any]]
"""The body of the n-th request."""


@dataclass(frozen=True)
class ServerProcess:
    """`embedmill serve`, started."""

    url: str
    process: subprocess.Popen[bytes]

    @property
    def rss_bytes(self) -> int:
        found = psutil.Process(self.process.pid)
        return sum(each.memory_info().rss for each in [found, *found.children(recursive=True)])

    @property
    def runs(self) -> bool:
        return self.process.poll() is None


@contextmanager
def serving(target: Path, *options: str, log: Path) -> Iterator[ServerProcess]:
    """A server on a free port of 127.0.0.1, until the block ends; `log` gets its stderr."""
    command = [
        sys.executable,
        "-m",
        "embedmill",
        "serve",
        str(target),
        "--json",
        "--port",
        "0",
        "--drain",
        "0",
    ]
    with log.open("wb") as stderr:
        process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=stderr)
        try:
            assert process.stdout is not None
            lines = iter(process.stdout.readline, b"")
            text = b""
            for line in lines:
                text += line
                if line.startswith(b"}") or (line.startswith(b"{") and line.rstrip().endswith(b"}")):
                    break
            assert text, log.read_text()
            yield ServerProcess(json.loads(text)["url"], process)
        finally:
            process.terminate()
            process.wait(120)
            if process.stdout is not None:
                process.stdout.close()


@contextmanager
def _without_pauses() -> Iterator[None]:
    """Python's collector looks at what is made from now on alone: else it stops the client for 0.5 s."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@dataclass
class Answers:
    """Statuses, seconds of answers with 200, and refusals that do not say when to ask again."""

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    without_retry_after: int = 0

    def p(self, share: float) -> float:
        """A percentile of the seconds."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Client:
    """Asks one address; many connections, none of them waited for."""

    def __init__(self, url: str, ask: Ask) -> None:
        self._url = url
        self._ask = ask
        self._asked = 0

    async def closed_loop(self, workers: int, seconds: float, *, refused_s: float = 0.0) -> Answers:
        """So many callers, each of whom waits for its answer before it asks again, later if refused."""
        found, end = Answers(), time.monotonic() + seconds
        async with self._session() as session:

            async def work() -> None:
                while time.monotonic() < end:
                    if await self._one(session, found) != 200:
                        await asyncio.sleep(refused_s)

            await asyncio.gather(*(work() for _ in range(workers)))
        return found

    async def open_loop(self, rate: float, seconds: float, *, seed: int = 0) -> Answers:
        """Requests at random times (Poisson), `rate` a second, however many are open."""
        found, random_times = Answers(), random.Random(seed)
        open_requests: set[asyncio.Future[int]] = set()
        async with self._session() as session:
            with _without_pauses():
                started, due = time.monotonic(), 0.0
                while due < seconds:
                    due += random_times.expovariate(rate)
                    wait = started + due - time.monotonic()
                    if wait > 0:
                        await asyncio.sleep(wait)
                    asked = asyncio.ensure_future(self._one(session, found))
                    open_requests.add(asked)
                    asked.add_done_callback(open_requests.discard)
                await asyncio.gather(*open_requests)
        return found

    async def _one(self, session: aiohttp.ClientSession, found: Answers) -> int:
        """The answer's status."""
        self._asked += 1
        body = self._ask(self._asked)
        started = time.monotonic()
        async with session.post(self._url, json=body) as answer:
            await answer.read()
            seconds = time.monotonic() - started
        found.statuses[answer.status] += 1
        if answer.status == 200:
            found.seconds.append(seconds)
        elif answer.status in (429, 503) and "retry-after" not in answer.headers:
            found.without_retry_after += 1
        return answer.status

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(240)
        )


def merged(parts: Sequence[Answers]) -> Answers:
    """Answers of several rounds as one."""
    whole = Answers()
    for part in parts:
        whole.statuses += part.statuses
        whole.seconds += part.seconds
        whole.without_retry_after += part.without_retry_after
    return whole
