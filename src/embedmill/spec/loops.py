"""What worker loops tell of themselves, as `status` shows it."""

from __future__ import annotations

from pydantic import Field

from embedmill.spec.document import Part

BEAT_S = 5.0
"""How often a loop that has a shard in hand shows that it is alive."""


class LoopState(Part):
    """What a loop of an open run told last: its shard in hand, if it has one, and how busy its stages were.

    `stages` has the seconds of each, in the order of `read`, `fetch`, `prepare`, `batch`, `runtime`, `write`;
    `queued` says how many shards wait for the runtime and to be written; `bottleneck` is the busiest stage,
    empty before the first shard. `smaller`: sizes of its batches, where memory was too short for the planned.
    `silent_s`: how long ago it last showed that it is alive: from the store's time of what it wrote until now
    by the clock of who reads it, so that it is off by as much as these two differ; null if it has no shard in
    hand that is not committed, or the store tells no times.
    """

    worker: str
    shard: str | None
    bottleneck: str = ""
    stages: dict[str, float] = Field(default_factory=dict)
    queued: dict[str, int] = Field(default_factory=dict)
    smaller: dict[str, int] = Field(default_factory=dict)
    silent_s: float | None = None
