"""Runs in the store: which are open, and how far they are."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from embedmill.errors import ObjectMissing
from embedmill.release.layout import PLAN, TERMINAL, Home
from embedmill.spec.documents import Plan

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class WorkState:
    """How far the work of a run is, in rows; `committed` counts shards."""

    shards: int
    committed: int
    rows: int
    rows_committed: int
    rows_in_work: int

    @property
    def rows_done(self) -> int:
        """Rows that are committed or embedded by a worker just now."""
        return min(self.rows, self.rows_committed + self.rows_in_work)

    @property
    def complete(self) -> bool:
        """Whether every shard has a commit record."""
        return self.committed == self.shards


def open_plans(home: Home) -> Iterator[Plan]:
    """Plans of runs that are not closed, newest first."""
    names = {info.key.split("/")[2] for info in home.store.list(f"{home.pipeline}/runs")}
    for run in sorted(names, reverse=True):
        if not home.exists(home.run_key(run, TERMINAL)):
            with suppress(ObjectMissing):  # planning died before its last step: nothing counts
                yield home.read(Plan, home.run_key(run, PLAN))


def work_state(home: Home, plan: Plan) -> WorkState:
    """Read a run's progress from the store."""
    folder = home.run_key(plan.run, "commits")
    committed = {info.key.rsplit("/", 1)[1].removesuffix(".json") for info in home.store.list(folder)}
    done = [shard for shard in plan.shards if shard.name in committed]
    return WorkState(
        shards=len(plan.shards),
        committed=len(done),
        rows=plan.compute,
        rows_committed=sum(shard.rows for shard in done),
        rows_in_work=_rows_in_work(home, plan.run, committed),
    )


def _rows_in_work(home: Home, run: str, committed: set[str]) -> int:
    """Rows that workers report of shards that are not committed."""
    rows = 0
    for info in home.store.list(home.run_key(run, "events")):
        with suppress(ObjectMissing, ValueError, KeyError):
            event = json.loads(home.store.get(info.key))
            if event["shard"] is not None and event["shard"] not in committed:
                rows += int(event["shard_done"])
    return rows
