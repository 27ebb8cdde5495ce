"""Which shard is next: claims of those that are left, until all are committed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from embedmill.errors import ObjectMissing, Yielded
from embedmill.release.draining import DRAINED, SENT_AWAY, is_drained, is_sent_away
from embedmill.release.runs import check_open
from embedmill.store.pace import Pace
from embedmill.work.leases import HeldLease, Leases
from embedmill.work.stragglers import Patience

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from embedmill.release.layout import Home
    from embedmill.spec.documents import Plan, ShardPlan


@dataclass
class Claims:
    """The claims of one loop. `check` raises where it is to stop.

    `mine` are shards that this loop has, and has not committed yet: it asks for none of them again.
    """

    home: Home
    plan: Plan
    worker: str
    check: Callable[[], None]
    mine: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Begin to be patient."""
        self.patience = Patience(self.home.world)

    def __iter__(self) -> Iterator[tuple[ShardPlan, HeldLease]]:
        """Shards to work on, until all others are committed.

        Waits while others hold the last ones; for long, and it works on one of those, too.
        """
        leases = Leases(self.home, self.plan.run, self.worker)
        open_shards, pace = list(self.plan.shards), Pace(self.home.store)
        again = False
        while open_shards:
            done = set(self.mine) | self._committed()  # in this order: what is committed meanwhile is in one
            open_shards = [shard for shard in open_shards if shard.name not in done]
            claimed = False
            for shard in open_shards:
                self.check()
                check_open(self.home, self.plan.run)
                self._check_not_drained()
                lease = leases.claim(shard.name)
                if lease is None and again:
                    lease = leases.claim(shard.name, again=True)
                if lease is not None and not self._is_committed(shard):
                    claimed, again = True, False
                    self.mine.add(shard.name)
                    yield shard, lease
                    self._check_not_sent_away()
            if claimed:
                pace.restart()
            elif open_shards:
                again = not self.mine and self.patience.is_over()
                self.home.world.sleep(pace.wait_s())

    def _check_not_drained(self) -> None:
        if is_drained(self.home, self.plan.run):
            raise Yielded(
                f"worker {self.worker} was asked to stop: {DRAINED}", hint="`embedmill resume` goes on"
            )

    def _check_not_sent_away(self) -> None:
        """Between two shards: one request a shard, since nothing waits for it."""
        if is_sent_away(self.home, self.plan.run, self.worker):
            raise Yielded(f"worker {self.worker} was asked to stop: {SENT_AWAY}")

    def _committed(self) -> set[str]:
        folder = self.home.run_key(self.plan.run, "commits")
        return {Path(info.key).stem for info in self.home.store.list(folder)}

    def _is_committed(self, shard: ShardPlan) -> bool:
        try:
            self.home.store.head(self.home.run_key(self.plan.run, "commits", f"{shard.name}.json"))
        except ObjectMissing:
            return False
        return True
