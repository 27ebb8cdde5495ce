"""The JSON documents of commands on several pipelines, and of what loops did in a run."""

from __future__ import annotations

from typing import ClassVar, Literal

from embedmill.spec.document import Document, Part
from embedmill.spec.documents import ReleaseName
from embedmill.spec.reports import WorkerShare


class PipelineOutcome(Part):
    """How one pipeline of `run --all` ended. `outcome` is what `exit_code` means; `message`: what went wrong,
    and how long it waited for its turn to plan.

    `devices` names the pool that it shared: `local`, or a fleet.yaml; `device_s`: seconds of its loops there.
    `share` is its part of those while pipelines of the pool had to wait, `due_share` the part by priority.
    """

    pipeline: str
    file: str
    priority: int
    outcome: Literal["published", "quarantined", "not published", "try again", "stopped", "failed"]
    exit_code: int
    message: str
    release: ReleaseName | None
    computed: int
    devices: str
    device_s: float
    share: float
    due_share: float
    seconds: float
    deadline: str | None
    late: bool


class RunAllReport(Document):
    """`run --all`: `exit_code` is that of the worst of them."""

    SCHEMA: ClassVar[str] = "run-all/1"

    exit_code: int
    pipelines: tuple[PipelineOutcome, ...]
    seconds: float


class PastRun(Part):
    """A run, and how it ended: `why` in words where it was not published."""

    run: str
    created: str
    outcome: Literal["published", "open", "not published", "given up", "lost"]
    why: str


class PipelineStanding(Part):
    """One pipeline of `status --all`. `age_s`: since its newest publication.

    `error`: what could not be told, that a document of the live release is gone or damaged, or that another
    file is the same pipeline in the same store.
    `due` is the next deadline; `late`: the last one passed with no release of the 24 hours before it.
    """

    pipeline: str
    file: str
    priority: int
    live: ReleaseName | None
    published: str | None
    age_s: float | None
    deadline: str | None
    due: str | None
    late: bool
    hold: bool
    runs: tuple[PastRun, ...]
    error: str


class StatusAllReport(Document):
    """`status --all`; `runs` are the newest first."""

    SCHEMA: ClassVar[str] = "status-all/1"

    pipelines: tuple[PipelineStanding, ...]


class ShardTime(Part):
    """A committed shard: who did it, from when on (seconds after the run's work began), and for how long.

    `rows` of it were embedded or refused, `vectors` have one.
    """

    shard: str
    worker: str
    begin_s: float
    seconds: float
    rows: int
    vectors: int


class RunWorkReport(Document):
    """`report`: what the loops of a run did, by its commit records and by what they told of themselves.

    `seconds`: from the first committed shard's begin to the last one's end, by the clocks of whoever worked.
    """

    SCHEMA: ClassVar[str] = "run-work/1"

    run: str
    pipeline: str
    began: str | None
    seconds: float
    shards_planned: int
    rows: int
    vectors: int
    workers: tuple[WorkerShare, ...]
    shards: tuple[ShardTime, ...]
