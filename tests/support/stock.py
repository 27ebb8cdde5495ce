"""Shards that nobody gets before the test hands them out, so that no run is over before its time."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from embedmill.release.layout import Home
from embedmill.spec.documents import Plan
from embedmill.work.leases import BEAT_S, HeldLease, Leases

PATIENCE_S = 120.0


class Stock:
    """The shards of a planned run, held by nobody who works.

    planned = mill.planned(rows)
    with Stock(planned.home, planned.plan) as stock:
        driver = run()
        stock.hand_out_until_done_by("worker-0")
        ...  # some are left: the run goes on
    """

    def __init__(self, home: Home, plan: Plan) -> None:
        """Take the shards that nobody works on or has done: all of them, unless workers were first.

        Raises:
            AssertionError: None is left; nothing is held.
        """
        self._home, self._run = home, plan.run
        self._held: list[HeldLease] = []
        self._handing_out = threading.Lock()
        leases = Leases(home, plan.run, "nobody")
        try:
            for shard in plan.shards:
                if lease := leases.claim(shard.name):
                    self._held.append(lease)
            self._leave_what_is_done()
        except BaseException:
            self.hand_out()
            raise
        assert self._held, "others have begun all of it"

    def keep_until(self, holds: Callable[[], bool], what: str) -> None:
        """Until something holds, which `what` says in words."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < deadline_s, f"not within {PATIENCE_S:.0f} s: {what}"
            self._beat()
            time.sleep(0.1)

    def keep_until_there(self, *workers: str) -> None:
        """Until all of them look for work, and find none."""
        self.keep_until(lambda: all(map(self._told, workers)), f"{', '.join(workers)}: there")

    def hand_out_one(self) -> None:
        """To whoever is first."""
        with self._handing_out:
            self._held.pop().release()

    def hand_out_all_but_one(self) -> None:
        """So that the run goes on, and is not over."""
        while len(self._held) > 1:
            self.hand_out_one()

    def hand_out_until_done_by(self, worker: str) -> None:
        """One by one, until this worker has done one. Some are left afterwards."""

        def done() -> bool:
            self._held.pop().release()
            assert self._held, f"others did all of the run before {worker}"
            return bool(self._told(worker).get("rows_done"))

        self.keep_until_there(worker)
        self.keep_until(done, f"{worker}: at work")

    @contextmanager
    def kept_elsewhere(self) -> Iterator[None]:
        """By somebody of another machine, for as long as this lasts, whatever the test does meanwhile."""
        for lease in self._held:
            lease.lease = lease.lease.model_copy(update={"host": "elsewhere"})
        over = threading.Event()

        def keep() -> None:
            self._beat()
            while not over.wait(BEAT_S):
                self._beat()

        keeper = threading.Thread(target=keep)
        keeper.start()
        try:
            yield
        finally:
            over.set()
            keeper.join()

    def hand_out(self) -> None:
        """All that are left."""
        while self._held:
            self._held.pop().release()

    def __enter__(self) -> Stock:
        return self

    def __exit__(self, *_: object) -> None:
        self.hand_out()

    def _leave_what_is_done(self) -> None:
        for lease in list(self._held):
            if self._home.exists(self._home.run_key(self._run, "commits", f"{lease.lease.shard}.json")):
                self._held.remove(lease)
                lease.release()

    def _beat(self) -> None:
        with self._handing_out:
            for lease in self._held:
                lease.beat()

    def _told(self, worker: str) -> dict[str, Any]:
        """What a worker tells of itself, nothing before it looks for work."""
        key = self._home.run_key(self._run, "events", f"{worker}.json")
        found: dict[str, Any] = json.loads(self._home.store.get(key)) if self._home.exists(key) else {}
        return found
