"""Shards that nobody gets before the test hands them out, so that no run is over before its time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from embedmill.release.layout import Home
from embedmill.spec.documents import CommitRecord, Plan
from embedmill.work.leases import BEAT_S, HeldLease, Leases

PATIENCE_S = 240.0
PAUSE_S = 0.1


class Stock:
    """The shards of a planned run, held by nobody who works.

    planned = mill.planned(rows)
    with Stock(planned.home, planned.plan) as stock:
        driver = run()
        stock.hand_out_until_done_by("worker-0")
        ...  # some are left: the run goes on
    """

    def __init__(self, home: Home, plan: Plan, *, elsewhere: bool = False) -> None:
        """Take the shards that nobody works on or has done: all of them, unless workers were first.

        They are kept until they are handed out, whatever the test does meanwhile; `elsewhere`: by somebody of
        another machine.

        Raises:
            AssertionError: None is left; nothing is held.
        """
        self._home, self._run = home, plan.run
        self._held: list[HeldLease] = []
        self._committed: dict[str, str] = {}
        self._over = threading.Event()
        leases = Leases(home, plan.run, "nobody")
        try:
            for shard in plan.shards:
                if lease := leases.claim(shard.name):
                    self._held.append(lease)
            self._leave_what_is_done()
            if elsewhere:
                self._move_away()
        except BaseException:
            self.hand_out()
            raise
        assert self._held, "others have begun all of it"
        self._keeper = threading.Thread(target=self._keep, name="stock", daemon=True)
        self._keeper.start()

    def keep_until(self, holds: Callable[[], bool], what: str) -> None:
        """Until something holds, which `what` says in words."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < deadline_s, f"not within {PATIENCE_S:.0f} s: {what}"
            time.sleep(0.1)

    def keep_until_there(self, *workers: str) -> None:
        """Until all of them look for work, and find none."""
        self.keep_until(lambda: all(map(self._has_told, workers)), f"{', '.join(workers)}: there")

    def hand_out_until_done_by(self, *workers: str) -> None:
        """One by one, until all of these workers have committed one. Some are left afterwards.

        No more than these workers are busy with, and ever more slowly, so that one that looks for work seldom
        gets one, too.
        """
        self.keep_until_there(*workers)
        handed_out, next_s, missing = 0, 0.0, set(workers)

        def done() -> bool:
            nonlocal handed_out, next_s
            missing.difference_update(self._committers())
            busy = handed_out - len(self._committed) >= 2 * len(workers)
            if missing and not busy and time.monotonic() >= next_s:
                self._held.pop().release()
                handed_out, next_s = handed_out + 1, time.monotonic() + PAUSE_S * handed_out
                assert self._held, f"others did all of the run before {', '.join(missing)}"
            return not missing

        self.keep_until(done, f"{', '.join(workers)}: at work")

    def hand_out_all_but_one(self) -> None:
        """The run goes on until the last one is handed out, too."""
        while len(self._held) > 1:
            self._held.pop().release()

    def hand_out(self) -> None:
        """All that are left."""
        while self._held:
            self._held.pop().release()

    def __enter__(self) -> Stock:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._keeper.join()
        self.hand_out()

    def _leave_what_is_done(self) -> None:
        for lease in list(self._held):
            if self._home.exists(self._home.run_key(self._run, "commits", f"{lease.lease.shard}.json")):
                self._held.remove(lease)
                lease.release()

    def _move_away(self) -> None:
        for lease in self._held:
            lease.lease = lease.lease.model_copy(update={"host": "elsewhere"})
            lease.beat()

    def _keep(self) -> None:
        while not self._over.wait(BEAT_S):
            for lease in list(self._held):
                lease.beat()

    def _has_told(self, worker: str) -> bool:
        """Whether a worker has told of itself, as it does from when it looks for work."""
        return self._home.exists(self._home.run_key(self._run, "events", f"{worker}.json"))

    def _committers(self) -> set[str]:
        """Workers that have committed shards; each record is read once."""
        for info in self._home.store.list(self._home.run_key(self._run, "commits")):
            if info.key not in self._committed:
                self._committed[info.key] = self._home.read(CommitRecord, info.key).worker
        return set(self._committed.values())
