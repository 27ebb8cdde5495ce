"""Ten times as much is asked of a real server as it can compute: it says no at once, and goes on."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from tests.models import tiny_bert_folder
from tests.support.load import Answers, Client, ServerProcess, serving
from tests.support.mill import Mill, items

from embedmill.model.sentence_transformers import import_sentence_transformers

CALLERS = 150
TOO_MUCH = 10
GROWTH_BYTES = 200 * 2**20
QUICK_S, SOAK_S = 30.0, 300.0
STARVED_S = 20.0
"""What a machine whose cores others use may add; a queue without an end would come to `QUICK_S`."""
STUCK_S = 60.0
"""From when on a batch counts as hung."""
RECOVERED_S = 120.0


@pytest.fixture(scope="module")
def busy_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server of a model that takes some 20 ms for one of the queries below, on one core."""
    folder = tmp_path_factory.mktemp("overload")
    bert = tiny_bert_folder(folder / "bert", layers=6, hidden=256, heads=4, positions=130, max_length=128)
    import_sentence_transformers(bert, folder / "package", template="{title}")
    mill = Mill(folder, folder / "package", settings={"serving": {"wait_s": STUCK_S}})
    mill.run(items(60))
    with serving(folder / "pipeline.yaml", "--threads", "1", log=folder / "log") as server:
        yield server


def query(number: int) -> dict[str, Any]:
    """A hundred tokens that nobody asked for before."""
    letters = random.Random(number).choices("abcdefghijkl", k=100)
    return {"text": f"{' '.join(letters)} {number}", "k": 5}


class Memory(threading.Thread):
    """The most memory that a server had while it was watched."""

    def __init__(self, server: ServerProcess) -> None:
        super().__init__(daemon=True)
        self.server, self.most_bytes, self.over = server, 0, threading.Event()

    def __enter__(self) -> Memory:
        self.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.over.set()
        self.join()

    def run(self) -> None:
        while not self.over.wait(0.2):
            self.most_bytes = max(self.most_bytes, self.server.rss_bytes)


@pytest.mark.timeout(900)
def test_under_ten_times_too_much_who_is_let_in_is_served_well(busy_server: ServerProcess) -> None:
    """Of callers that ask again later if they are refused: a client that is starved itself floods nobody."""

    async def crowd(client: Client, capacity: float) -> Answers:
        return await client.closed_loop(CALLERS, QUICK_S, refused_s=CALLERS / (TOO_MUCH * capacity))

    over, usual = flood(busy_server, QUICK_S, crowd, usual_s=5.0)
    assert over.p(0.99) <= max(6 * usual.p(0.99), STARVED_S)


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_five_minutes_of_ten_times_too_much(busy_server: ServerProcess) -> None:
    over, usual = flood(
        busy_server, SOAK_S, lambda client, capacity: client.open_loop(TOO_MUCH * capacity, SOAK_S, seed=1)
    )
    assert over.p(0.99) <= 2 * usual.p(0.99)
    after = asyncio.run(Client(f"{busy_server.url}/search", query).closed_loop(1, 2.0))
    assert after.p(0.5) <= 2 * usual.p(0.5)


def flood(
    server: ServerProcess,
    seconds: float,
    ask: Callable[[Client, float], Coroutine[Any, Any, Answers]],
    *,
    usual_s: float = 15.0,
) -> tuple[Answers, Answers]:
    """Answers under ten times too much, and before it at 70 %, for `usual_s`."""
    client = Client(f"{server.url}/search", query)
    asyncio.run(client.closed_loop(2, 2))
    capacity = max(len(asyncio.run(client.closed_loop(3, 2)).seconds) for _ in range(3)) / 2
    usual = asyncio.run(client.open_loop(0.7 * capacity, usual_s))
    assert set(usual.statuses) <= {200, 429}
    before = server.rss_bytes
    with Memory(server) as memory:
        over = asyncio.run(ask(client, capacity))
    assert server.runs
    assert set(over.statuses) <= {200, 429, 503}
    assert over.without_retry_after == 0
    assert over.statuses[429] > over.statuses[200] > 0.1 * capacity * seconds
    assert memory.most_bytes - before < GROWTH_BYTES
    wait_for_usual_answers(client)
    print(report(capacity, usual, over, memory.most_bytes - before))  # noqa: T201 - shown when it fails, and by -s
    return over, usual


def wait_for_usual_answers(client: Client) -> None:
    """Until nobody is refused who asks again once he was answered."""
    deadline_s = time.monotonic() + RECOVERED_S
    while set(asyncio.run(client.closed_loop(1, 0.5)).statuses) != {200}:
        assert time.monotonic() < deadline_s, "it goes on to refuse"


def report(capacity: float, usual: Answers, over: Answers, growth_bytes: int) -> str:
    rows = [f"capacity {capacity:.1f}/s, memory grew by {growth_bytes / 2**20:.0f} MiB"]
    for name, answers in (("70 %", usual), ("10 times", over)):
        times = ", ".join(f"p{share:.0%} {1000 * answers.p(share):.0f} ms" for share in (0.5, 0.99))
        rows.append(f"{name}: {dict(answers.statuses)}, {times}")
    return "\n".join(rows)
