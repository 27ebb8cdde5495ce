"""What worker loops tell of themselves, as `status` shows it."""

from __future__ import annotations

from pydantic import Field

from embedmill.spec.document import Part


class LoopState(Part):
    """What a loop of an open run told last: its shard in hand, if it has one, and how busy its stages were.

    `stages` has the seconds of each, in the order of `read`, `fetch`, `prepare`, `batch`, `runtime`, `write`;
    `queued` says how many shards wait for the runtime and to be written; `bottleneck` is the busiest stage,
    empty before the first shard. `smaller`: sizes of its batches, where memory was too short for the planned.
    """

    worker: str
    shard: str | None
    bottleneck: str = ""
    stages: dict[str, float] = Field(default_factory=dict)
    queued: dict[str, int] = Field(default_factory=dict)
    smaller: dict[str, int] = Field(default_factory=dict)
