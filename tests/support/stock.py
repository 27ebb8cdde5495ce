"""Shards that nobody gets before the test hands them out, so that no run is over before its time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from tests.support.patience import PATIENCE_S

from embedmill.release.layout import Home
from embedmill.spec.documents import CommitRecord, Plan
from embedmill.spec.loops import BEAT_S
from embedmill.work.leases import HeldLease, Leases

PAUSE_S = 0.1
Unless = Callable[[], str | None]
"""The last words of a run that has ended, so that waiting for its workers is useless; None while it runs."""


def still_runs() -> None:
    """Of a run of which nothing can be told."""


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

        They are kept until they are handed out, whatever the test does meanwhile and however long the taking
        lasts; `elsewhere`: by somebody of another machine.

        Raises:
            AssertionError: None is left; nothing is held.
        """
        self._home, self._run = home, plan.run
        self._held: list[HeldLease] = []
        self._committed: dict[str, str] = {}
        self._over = threading.Event()
        self._one_at_a_time = threading.Lock()
        """A lease is not given while it is kept: its file would come again, and stay."""
        self._failed: Exception | None = None
        self._keeper = threading.Thread(target=self._keep, name="stock", daemon=True)
        self._keeper.start()
        try:
            self._take(plan, elsewhere=elsewhere)
            assert self._held, "others have begun all of it"
        except BaseException:
            self._end()
            raise

    def wait_until(self, holds: Callable[[], bool], what: str, *, unless: Unless = still_runs) -> None:
        """Until something holds, which `what` says in words.

        Raises:
            AssertionError: It lasts too long, or `unless` tells of an end, after which it will never hold.
        """
        for _ in self._looks(what, unless):
            if holds():
                return

    def wait_until_there(self, *workers: str, unless: Unless = still_runs) -> None:
        """Until all of them look for work, and find none."""
        self.wait_until(
            lambda: all(map(self._has_told, workers)), f"{', '.join(workers)}: there", unless=unless
        )

    def hand_out_until_done_by(self, *workers: str, unless: Unless = still_runs) -> None:
        """One by one, until all of these workers have committed one. Some are left afterwards.

        No more than these workers are busy with, and ever more slowly, so that one that looks for work seldom
        gets one, too.
        """
        self.wait_until_there(*workers, unless=unless)
        self._committers()
        before, given, next_s = len(self._committed), 0, 0.0
        for _ in self._looks(f"{', '.join(workers)}: at work", unless):
            missing = set(workers) - self._committers()
            if not missing:
                return
            busy = given - (len(self._committed) - before)
            if busy < 2 * len(workers) and time.monotonic() >= next_s:
                self._give()
                assert self._held, f"others did all of the run before {', '.join(sorted(missing))}"
                next_s = time.monotonic() + PAUSE_S * given
                given += 1

    def hand_out_all_but_one(self) -> None:
        """The run goes on until the last one is handed out, too."""
        while len(self._held) > 1:
            self._give()

    def hand_out(self) -> None:
        """All that are left."""
        while self._held:
            self._give()

    def __enter__(self) -> Stock:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        self._raise_what_failed()

    def _take(self, plan: Plan, *, elsewhere: bool) -> None:
        leases = Leases(self._home, plan.run, "nobody")
        for shard in plan.shards:
            lease = leases.claim(shard.name)
            if lease is None:
                continue
            if self._home.exists(self._home.run_key(self._run, "commits", f"{shard.name}.json")):
                lease.release()
                continue
            if elsewhere:
                lease.lease = lease.lease.model_copy(update={"host": "elsewhere"})
                lease.beat()
            self._held.append(lease)

    def _give(self) -> None:
        """Leave a shard to the workers; it must have been ours until now."""
        lease = self._held.pop()
        with self._one_at_a_time:
            lease.beat()
            assert not lease.lost, f"shard {lease.lease.shard} was taken from the stock: not kept in time"
            lease.release()

    def _keep(self) -> None:
        """Show all BEAT_S that the holder is alive, and at once again after a round that took longer."""
        began_s = time.monotonic()
        try:
            while not self._over.wait(max(0.0, BEAT_S - (time.monotonic() - began_s))):
                began_s = time.monotonic()
                for lease in list(self._held):
                    if self._over.is_set():
                        return
                    with self._one_at_a_time:
                        lease.beat()
        except Exception as error:  # noqa: BLE001 - whoever waits raises it
            self._failed = error

    def _end(self) -> None:
        self._over.set()
        self._keeper.join(PATIENCE_S)
        assert not self._keeper.is_alive(), f"the stock was still kept {PATIENCE_S:.0f} s after its end"
        self.hand_out()

    def _looks(self, what: str, unless: Unless) -> Iterator[None]:
        """One look after another, until patience ends, or what makes waiting useless is told."""
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            ended = unless()  # before the look: what was done until the end counts
            yield
            self._raise_what_failed()
            assert ended is None, f"{what}: never, for {ended}"
            assert time.monotonic() < deadline_s, f"not within {PATIENCE_S:.0f} s: {what}"
            time.sleep(0.1)

    def _raise_what_failed(self) -> None:
        if self._failed:
            raise AssertionError("the stock could not be kept") from self._failed

    def _has_told(self, worker: str) -> bool:
        """Whether a worker has told of itself, as it does from when it looks for work."""
        return self._home.exists(self._home.run_key(self._run, "events", f"{worker}.json"))

    def _committers(self) -> set[str]:
        """Workers that have committed shards; each record is read once."""
        for info in self._home.store.list(self._home.run_key(self._run, "commits")):
            if info.key not in self._committed:
                self._committed[info.key] = self._home.read(CommitRecord, info.key).worker
        return set(self._committed.values())
