"""Stages overlap: nothing is lost, nothing is claimed twice, and it is said which one the others wait for."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.models import tiny_image_package
from tests.support.mill import Mill, items
from tests.support.patience import PATIENCE_S, until
from tests.support.shop import fetching, png, rows, serve
from tests.support.web import Request, WebServer, picture, web_server

from embedmill.errors import StoreFull, Yielded
from embedmill.planned import PlannedRun
from embedmill.release.describe import run_states
from embedmill.release.layout import Home
from embedmill.store.base import Body
from embedmill.store.local import LocalStore
from embedmill.types import STAGES
from embedmill.work import WorkerOptions, work
from embedmill.work.leases import Leases
from embedmill.work.stages import Ahead, Behind, NextShard, StageTimes


def told(run: PlannedRun, worker: str = "w") -> dict[str, Any]:
    event: dict[str, Any] = json.loads(
        run.home.store.get(run.home.run_key(run.plan.run, "events", f"{worker}.json"))
    )
    return event


def leases(run: PlannedRun) -> set[str]:
    return {Path(info.key).stem for info in run.home.store.list(run.home.run_key(run.plan.run, "leases"))}


def committed(run: PlannedRun) -> set[str]:
    return {Path(info.key).stem for info in run.home.store.list(run.home.run_key(run.plan.run, "commits"))}


def test_a_run_whose_stages_overlap_has_the_content_of_one_without_threads(
    mill: Mill, tmp_path: Path, tiny_model: Path
) -> None:
    mill.settings = {"work": {"shard_rows": 7}}
    digests = []
    for name, threads in (("overlapping", True), ("one-by-one", False)):
        (tmp_path / name).mkdir()
        here = Mill(tmp_path / name, tiny_model, settings=mill.settings)
        run = here.planned(items(100))
        work(run.home, run.plan.run, WorkerOptions("w", heartbeat_thread=threads))
        run.run()
        digests.append(here.live().content.content_digest)
    assert digests[0] == digests[1]


@pytest.mark.parametrize("folder", ["leases", "vectors", "commits"])
def test_a_loop_that_is_killed_while_its_stages_overlap_loses_what_is_not_committed_and_nothing_else(
    mill: Mill, folder: str
) -> None:
    mill.settings = {"work": {"shard_rows": 5}}
    run = mill.planned(items(60))
    words = [sys.executable, "-m", "tests.support.dying_worker", str(mill.root / "pipeline.yaml")]
    died = subprocess.run([*words, run.plan.run, folder], capture_output=True, text=True)
    assert died.returncode == -signal.SIGKILL, died.stderr
    before = committed(run)
    assert before <= leases(run)
    assert len(before) <= 2
    done = work(run.home, run.plan.run, WorkerOptions("other"))
    assert done.shards == len(run.plan.shards) - len(before)
    assert run.run().embedded == 60


class SlowToWrite(LocalStore):
    """A store in which vectors arrive only when `go` is set."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.go = threading.Event()

    def put_if_absent(self, key: str, body: Body) -> str:
        if "/vectors/" in key:
            assert self.go.wait(PATIENCE_S)
        return super().put_if_absent(key, body)


def test_shards_that_wait_to_be_written_are_committed_when_a_loop_is_asked_to_stop(mill: Mill) -> None:
    """And those that are not computed yet are free at once, while the writing goes on."""
    mill.settings = {"work": {"shard_rows": 5}}
    run = mill.planned(items(100))
    store = SlowToWrite(run.home.store.url)
    home = Home(store, run.home.pipeline)

    def stop_while_it_writes() -> set[str]:
        until(lambda: len(leases(run)) == 4 and bool(list(events(run))))
        until(lambda: len(told(run)["unwritten"]) == 3)  # one is written, two wait; one is made ready
        os.kill(os.getpid(), signal.SIGTERM)
        until(lambda: len(leases(run)) == 3)
        assert not committed(run)
        before = leases(run)
        store.go.set()
        return before

    with ThreadPoolExecutor(1) as pool:
        still_held = pool.submit(stop_while_it_writes)
        with pytest.raises(Yielded):
            work(home, run.plan.run, WorkerOptions("w"))
    assert committed(run) == still_held.result(), "what was computed is written, and nothing else"
    assert committed(run) == leases(run), "a lease is left only where there is a commit record"
    work(run.home, run.plan.run, WorkerOptions("other"))
    assert run.run().embedded == 100


class Full(LocalStore):
    """A store without room for the vectors of the shard `unlucky`."""

    unlucky = ""

    def put_if_absent(self, key: str, body: Body) -> str:
        if "/vectors/" in key and f"part-{self.unlucky}." in key:
            raise StoreFull(f"{self.url}: no room")
        return super().put_if_absent(key, body)


def test_a_shard_that_cannot_be_written_ends_its_loop_while_others_hold_what_is_left(mill: Mill) -> None:
    mill.settings = {"work": {"shard_rows": 5}}
    run = mill.planned(items(100))
    store = Full(run.home.store.url)
    *_, store.unlucky, last = (shard.name for shard in run.plan.shards)
    held = Leases(run.home, run.plan.run, "another").claim(last)
    assert held is not None
    with pytest.raises(StoreFull, match="no room"):
        work(Home(store, run.home.pipeline), run.plan.run, WorkerOptions("w"))
    assert leases(run) == committed(run) | {last}, "all others are free"
    held.release()
    assert run.run().embedded == 100


def test_a_slow_store_is_said_to_be_the_bottleneck(mill: Mill) -> None:
    mill.settings = {"work": {"shard_rows": 20}}
    run = mill.planned(items(40))
    store = SlowToWrite(run.home.store.url)
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(work, Home(store, run.home.pipeline), run.plan.run, WorkerOptions("w"))
        until(lambda: bool(leases(run)) and "w.json" in str(list(events(run))))
        until(lambda: told(run)["bottleneck"] == "write")
        (state,) = run_states(run.home, lambda _: "")
        (loop,) = state.loops
        assert (loop.worker, loop.bottleneck, list(loop.stages)) == ("w", "write", list(STAGES))
        store.go.set()
        done.result(timeout=PATIENCE_S)


def events(run: PlannedRun) -> Iterator[str]:
    return (info.key for info in run.home.store.list(run.home.run_key(run.plan.run, "events")))


@pytest.fixture
def web() -> Iterator[WebServer]:
    with web_server() as server:
        yield server


def test_a_slow_image_server_is_said_to_be_the_bottleneck(mill: Mill, tmp_path: Path, web: WebServer) -> None:
    mill.model = tiny_image_package(tmp_path / "images-model")
    mill.schema = pa.schema([("sku", pa.string()), ("image", pa.string()), ("version", pa.int64())])
    fetching(mill, web, timeout_s=PATIENCE_S)
    serve(web, 12)
    run = mill.planned(rows(web, 12))
    go = threading.Event()

    def slowly(number: int) -> Any:
        async def behave(writer: asyncio.StreamWriter, request: Request) -> None:
            while not go.is_set():
                await asyncio.sleep(0.05)
            await picture(png(number))(writer, request)

        return behave

    web.paths |= {f"/{number}": slowly(number) for number in range(12)}
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(work, run.home, run.plan.run, WorkerOptions("w"))
        try:
            until(lambda: "w.json" in str(list(events(run))))
            until(lambda: told(run)["bottleneck"] == "fetch")
        finally:
            go.set()
        assert done.result(timeout=PATIENCE_S).vectors == 12
    assert told(run)["stages"]["fetch"] > 0


def test_items_are_made_ahead_and_no_more_of_them_than_wanted() -> None:
    made: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(10):
            made.append(number)
            yield number

    with Ahead(numbers(), depth=1, name="test") as ahead:
        until(lambda: len(made) == 2)
        assert next(ahead) == 0
        until(lambda: len(made) == 3)
        time.sleep(0.05)
        assert made == [0, 1, 2], "one waits, and one waits for room"
    assert "test" not in {thread.name for thread in threading.enumerate()}


def test_an_error_in_making_items_is_raised_after_those_that_were_made() -> None:
    def numbers() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    with Ahead(numbers(), depth=1, name="test") as ahead:
        assert next(ahead) == 1
        with pytest.raises(ValueError, match="broken"):
            next(ahead)


def test_an_error_behind_ends_the_block_and_nothing_is_done_after_it() -> None:
    done: list[int] = []

    def work_on(number: int) -> None:
        if number == 1:
            raise ValueError("broken")
        done.append(number)

    def put_all() -> None:
        with Behind(work_on, name="test") as put:
            for number in range(4):
                put(number)

    with pytest.raises(ValueError, match="broken"):
        put_all()
    assert done == [0]


def test_an_error_behind_is_told_at_once_and_raised_instead_of_the_yield_that_it_leads_to() -> None:
    told = threading.Event()

    def fail(_: int) -> None:
        raise ValueError("broken")

    def yields() -> None:
        with Behind(fail, name="test", on_error=told.set) as put:
            put(0)
            assert told.wait(PATIENCE_S)
            raise Yielded("asked to stop")

    with pytest.raises(ValueError, match="broken"):
        yields()


def test_whoever_waits_for_room_is_asked_again_and_again() -> None:
    go, waits = threading.Event(), iter(range(10))

    def wait() -> None:
        if next(waits) == 2:
            go.set()

    def work_on(_: int) -> None:
        assert go.wait(PATIENCE_S)

    with Behind(work_on, name="test", on_wait=wait) as put:
        for number in range(3):
            put(number)
    assert next(waits) == 3


def test_the_next_shard_is_wanted_when_the_one_in_hand_is_about_to_be_done() -> None:
    now_s = [0.0]
    shards = NextShard(lambda: now_s[0])
    wanted = threading.Event()

    def waits() -> None:
        shards.wait()
        wanted.set()

    waiting = threading.Thread(target=waits, daemon=True)
    waiting.start()
    shards.takes(2.0)
    with shards.while_at_work(100) as tell:
        now_s[0] = 50.0
        tell(50)
        assert not wanted.wait(0.05), "50 s are left, and making one ready takes 2"
        now_s[0] = 97.0
        tell(47)
        assert wanted.wait(PATIENCE_S), "3 s are left"
    waiting.join()


def test_the_next_shard_is_wanted_once_for_each_in_hand_however_often_it_is_said() -> None:
    shards, waits = NextShard(lambda: 0.0), list[int]()

    def claim() -> None:
        for number in range(3):
            shards.wait()
            waits.append(number)

    claiming = threading.Thread(target=claim, daemon=True)
    claiming.start()
    shards.hurry()  # none is in hand
    with shards.while_at_work(100) as tell:
        assert not waits
        shards.hurry()
        until(lambda: waits == [0], "the next one is claimed long before this one's rows are done")
        shards.hurry()
        tell(100)
    with shards.while_at_work(100):
        pass
    until(lambda: waits == [0, 1])
    time.sleep(0.05)
    assert waits == [0, 1]
    shards.give_up()
    claiming.join(PATIENCE_S)


def test_the_busiest_stage_is_the_bottleneck_also_while_it_hangs() -> None:
    now_s = [0.0]
    times = StageTimes(lambda: now_s[0])
    assert times.told()["bottleneck"] == ""
    with times.during("runtime"):
        now_s[0] += 2.0
        assert list(times.waiting("runtime", [1])) == [1]
    with times.during("fetch"):
        now_s[0] += 3.0
        assert times.told()["bottleneck"] == "fetch"
    assert times.told()["stages"]["fetch"] == 3.0
