"""Starting commands, finding their workers, and reading what they committed: for tests that kill."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
from tests.support.patience import PATIENCE_S, until
from tests.support.stock import Stock

from embedmill import Pipeline
from embedmill.release.layout import Home
from embedmill.spec.documents import CommitRecord


def start(arguments: list[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "embedmill", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def a_worker_of(process: subprocess.Popen[str]) -> psutil.Process:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and process.poll() is None:
        for child in psutil.Process(process.pid).children():
            if "worker" in _line(child):
                return child
        time.sleep(0.01)
    raise AssertionError(end_of(process)() or "the run started no worker")


def workers_on(spec: Path) -> list[psutil.Process]:
    """Worker processes of this pipeline's store, whoever started them."""
    store = home(spec).store.url
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        line = process.info["cmdline"] or []
        if "worker" in line and any(store in word for word in line):
            found.append(process)
    return found


def wait_for_orphans(spec: Path) -> None:
    """Workers end by themselves when the run that started them is gone."""
    until(lambda: not workers_on(spec), "the end of all workers of a run that is gone")


def end_of(process: subprocess.Popen[str]) -> Callable[[], str | None]:
    """What `unless` of a stock asks: how a run that `start` started has ended, and what it said."""

    def ended() -> str | None:
        if process.poll() is None:
            return None
        out, err = process.communicate()
        return f"the run ended with exit code {process.returncode}:\n{out}{err}"

    return ended


def wait_for_a_commit(spec: Path) -> None:
    until(lambda: commits(spec), "a commit")


def home(spec: Path) -> Home:
    return Pipeline.from_file(spec).home


def records(spec: Path) -> Iterator[CommitRecord]:
    """All commit records there are."""
    store = home(spec).store
    for info in store.list(f"{home(spec).pipeline}/runs"):
        if "/commits/" in info.key:
            yield CommitRecord.from_bytes(store.get(info.key), info.key)


def commits(spec: Path) -> dict[str, str]:
    """Attempt by (run, shard), of all commit records there are."""
    return {f"{record.run}/{record.shard}": record.attempt for record in records(spec)}


def assert_nothing_was_done_twice(before: dict[str, str], after: dict[str, str]) -> None:
    assert before.items() <= after.items(), "a committed shard was computed again"
    assert len({key.split("/")[0] for key in after}) == 1, "a second run was planned"


def stock_of(spec: Path, *, elsewhere: bool = False) -> Stock:
    """The shards of the next run, planned now: it is not over before they are handed out."""
    planned = Pipeline.from_file(spec).plan()
    return Stock(planned.home, planned.plan, elsewhere=elsewhere)


def _line(process: psutil.Process) -> list[str]:
    """A process's command line; none of one that ended just now."""
    line: list[str] = []
    with contextlib.suppress(psutil.Error):
        line = process.cmdline()
    return line
