"""Metrics that Ray collects from its actors, and shows beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LABELS = ("worker", "run")


class Metrics:
    """Gauges of one worker loop; Ray's agent on the node exports them as `ray_embedmill_…`."""

    def __init__(self, worker: str, run: str) -> None:
        from ray.util.metrics import Gauge

        self._labels = {"worker": worker, "run": run}
        self._gauges = {
            name: Gauge(f"embedmill_{name}", description=words, tag_keys=LABELS)
            for name, words in (
                ("running", "Whether the worker's loop runs: 1 or 0."),
                ("rows", "Rows that the loop has embedded since it was started."),
                ("shards", "Shards that the worker has tried to the end, all its starts together."),
                ("shard_rows", "Rows of the shard at work; 0 between shards."),
                ("shard_rows_done", "Rows of the shard at work that are embedded."),
            )
        }

    def tell(self, progress: Mapping[str, Any], *, runs: bool) -> None:
        """Set them. `progress`: the loop's document `event/1`, or nothing before the first."""
        at_work = progress.get("shard") is not None
        values = {
            "running": float(runs),
            "rows": progress.get("rows_done", 0),
            "shards": max(0, progress.get("attempts", 0) - at_work),
            "shard_rows": progress.get("shard_rows", 0) if at_work else 0,
            "shard_rows_done": progress.get("shard_done", 0) if at_work else 0,
        }
        for name, value in values.items():
            self._gauges[name].set(float(value), tags=self._labels)
