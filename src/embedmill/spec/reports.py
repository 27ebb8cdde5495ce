"""The JSON documents that commands print with `--json`: versioned like those that are persisted.

Values of a catalog stand in them as `jsonable` writes them: bytes in base64, dates and times in ISO 8601,
decimals as text, numbers that JSON has no form for as null.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from typing import Any, ClassVar, Literal

from embedmill.spec.calibration import Calibration
from embedmill.spec.document import Document, Part
from embedmill.spec.documents import Counts, Estimate, Gates, ReleaseName
from embedmill.spec.loops import LoopState
from embedmill.spec.pipeline import PipelineSpec


def jsonable(value: Any) -> Any:
    """A catalog's value as JSON has it; never fails."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case bytes():
            return base64.b64encode(value).decode()
        case datetime() | date() | time():
            return value.isoformat()
        case Mapping():
            return {str(key): jsonable(inner) for key, inner in value.items()}
        case Sequence():
            return [jsonable(inner) for inner in value]
    return str(value)


class Failure(Part):
    """What went wrong: a stable `code`, words for people, and the process's exit code."""

    code: str
    message: str
    hint: str
    exit_code: int


class ErrorReport(Document):
    """Printed in place of any other document."""

    SCHEMA: ClassVar[str] = "error/1"

    error: Failure


class PlanReport(Document):
    """`plan`: what a run will do. `compute` and `reused` count vectors; `numerics`: what moved, if it did."""

    SCHEMA: ClassVar[str] = "plan-report/1"

    run: str
    base: ReleaseName | None
    resumed: bool
    outlived: dict[str, str]
    items: Counts
    excluded: int
    compute: int
    reused: int
    shards: int
    estimate: Estimate
    why: str
    epoch: int = 0
    numerics: str = ""
    calibration: Calibration | None = None


class WorkerShare(Part):
    """What one loop did of a run, by the commit records: in `seconds` of its time; `share`: of all rows.

    `starts`, `yields` and `retries` (attempts at shards that were not committed) are what it told of itself;
    what a killed loop did in its last half second is not among them. `idle_s`: of the time from its first
    shard on, the seconds that it spent on none that it committed.
    """

    worker: str
    server: str
    type: str
    image: str
    device: str
    shards: int
    vectors: int
    seconds: float
    rows: int = 0
    share: float = 0.0
    starts: int = 0
    yields: int = 0
    retries: int = 0
    idle_s: float = 0.0

    @property
    def rows_per_s(self) -> float:
        """How fast it read rows while it worked."""
        return self.rows / self.seconds if self.seconds else 0.0

    @property
    def vectors_per_s(self) -> float:
        """How fast it was while it worked."""
        return self.vectors / self.seconds if self.seconds else 0.0


class RunReport(Document):
    """`run` and `resume`: what was published. `computed` counts vectors, all others items.

    `kept` of the reused ones keep a previous vector, since their image could not be fetched. `shares`: what
    each server's GPU did, where other servers were used.
    """

    SCHEMA: ClassVar[str] = "run/1"

    release: str
    number: int
    url: str
    total: int
    computed: int
    embedded: int
    reused: int
    empty: int
    quarantined: int
    kept: int = 0
    compacted: bool
    resumed: bool
    seconds: float
    epoch: int = 0
    numerics: str = ""
    shares: tuple[WorkerShare, ...] = ()


class WorkReport(Document):
    """`worker`: what one loop did."""

    SCHEMA: ClassVar[str] = "work/1"

    shards: int
    vectors: int
    rejected: int


class RunState(Part):
    """An open run: shards and vectors, done and planned; `url` is what `worker --run` takes.

    `goes_on`: whether `run` would go on with it, null where that cannot be told; else `why` says why not.
    `stopped`: what the last check found against its candidate, and when that was made; empty if nothing.
    """

    run: str
    url: str
    created: str
    base: ReleaseName | None
    shards: int
    shards_done: int
    vectors: int
    vectors_done: int
    goes_on: bool | None
    why: str
    shares: tuple[WorkerShare, ...] = ()
    loops: tuple[LoopState, ...] = ()
    calibration: Calibration | None = None
    stopped: str = ""


class StatusReport(Document):
    """`status`: what is live, what is open, and what to do next.

    `trouble`: that a document of the live release is gone or damaged, as `release ls` says it; empty if not.
    """

    SCHEMA: ClassVar[str] = "status/1"

    pipeline: str
    url: str
    live: ReleaseName | None
    hold: int | None
    open_runs: tuple[RunState, ...]
    next: str
    trouble: str = ""


class SearchReport(Document):
    """`search`: hits with `id`, `score` and the display columns."""

    SCHEMA: ClassVar[str] = "search/1"

    release: str
    number: int | None
    hits: tuple[dict[str, Any], ...]


class ServingReport(Document):
    """`serve`: printed once the server listens, with a release that has proven itself."""

    SCHEMA: ClassVar[str] = "serving/1"

    url: str
    release: str
    number: int | None
    model: str


class SegmentReport(Part):
    """Vectors that one release wrote."""

    name: str
    rows: int
    live: int
    index: str


class QuarantinedItem(Part):
    """An item that could not be embedded; `row` counts through the whole catalog from 0."""

    id: str | None
    row: int | None
    source: str | None
    reason: str
    detail: str


class ReleaseReport(Document):
    """`release show`. `quarantine` counts items by reason; `quarantined` has the first of them."""

    SCHEMA: ClassVar[str] = "release/1"

    release: str
    number: int
    live: bool
    url: str
    created: str
    base: ReleaseName | None
    items: int
    counts: Counts
    embedded: int
    reused: int
    computed: int
    dimension: int
    package_digest: str
    encoder_digest: str
    content_digest: str
    manifest_digest: str
    segments: tuple[SegmentReport, ...]
    gates: Gates
    quarantine: dict[str, int]
    quarantined: tuple[QuarantinedItem, ...]


class DiffExample(Part):
    """One item and its display columns in both releases; only those that differ where both have it."""

    id: Any
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class DiffPart(Part):
    """How many items, and the first of them."""

    count: int
    examples: tuple[DiffExample, ...]


class DiffReport(Document):
    """`release diff`."""

    SCHEMA: ClassVar[str] = "diff/1"

    before: ReleaseName
    after: ReleaseName
    same_encoder: bool
    columns_added: tuple[str, ...]
    columns_removed: tuple[str, ...]
    unchanged: int
    added: DiffPart
    removed: DiffPart
    quarantined: DiffPart
    input_changed: DiffPart
    display_changed: DiffPart


class UnholdReport(Document):
    """`release unhold`: the log entry that lifted the hold; null where none was set."""

    SCHEMA: ClassVar[str] = "unhold/1"

    number: int | None


class VerifyReport(Document):
    """`release verify`: what was hashed again and found to be right."""

    SCHEMA: ClassVar[str] = "verify/1"

    release: str
    number: int
    files: int
    size_bytes: int
    seconds: float


class ExportReport(Document):
    """`export`: files written; `without_vector` counts items that were left out, their input being empty."""

    SCHEMA: ClassVar[str] = "export/1"

    release: str
    files: tuple[str, ...]
    items: int
    without_vector: int
    dimension: int
    size_bytes: int


class FetchReport(Document):
    """`fetch`: a whole release in `folder`. `fetched` of the `files` became whole by this call.

    `fetched_bytes` came by this call; what an earlier one left is not among them.
    """

    SCHEMA: ClassVar[str] = "fetch/1"

    release: str
    number: int | None
    url: str
    folder: str
    manifest_digest: str
    files: int
    fetched: int
    size_bytes: int
    fetched_bytes: int
    seconds: float


class InitReport(Document):
    """`init`: the file that was written."""

    SCHEMA: ClassVar[str] = "init/1"

    file: str


class ConfigReport(Document):
    """`config show`: a spec with its defaults and the environment's overrides."""

    SCHEMA: ClassVar[str] = "config/1"

    pipeline: PipelineSpec


class Finding(Part):
    """One thing that `doctor` looked at, and what to do where it is not `ok`."""

    check: str
    state: Literal["ok", "warn", "fail"]
    found: str
    hint: str


class DoctorReport(Document):
    """`doctor`."""

    SCHEMA: ClassVar[str] = "doctor/1"

    ok: bool
    findings: tuple[Finding, ...]


class ProbeFinding(Part):
    """One thing that was asked of a store."""

    check: str
    passed: bool
    found: str


class ProbeReport(Document):
    """`store check`; `urls` are the doors of one store."""

    SCHEMA: ClassVar[str] = "store-check/1"

    urls: tuple[str, ...]
    fit: bool
    findings: tuple[ProbeFinding, ...]
    seconds: float
