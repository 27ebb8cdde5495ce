"""Every persisted document: versioned, kept together. What commands print is in `reports` and beside it.

Changing one needs a new version, a golden file and a decision note. Paths in `FileEntry` are relative to
the pipeline's folder in the store in runs (but a plan's model lies in the release), and to the release's
folder in releases. Digests are SHA-256 in hex, but fingerprints are BLAKE2b-128.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal, TypeVar

from embedmill.spec.calibration import Calibration
from embedmill.spec.document import Document, Part, canonical_json, sha256
from embedmill.spec.pipeline import BATCH_TOKENS, PipelineSpec


class FileEntry(Part):
    """A file and what its bytes must be; `rows` where it is a table."""

    path: str
    size_bytes: int
    sha256: str
    rows: int | None = None


class Counts(Part):
    """Items of a plan, or of the release that became of it.

    new + changed + unchanged + quarantined = total; `deleted` is beside it. `kept` of the unchanged ones keep
    a previous vector, since their image could not be fetched.
    """

    total: int
    new: int
    changed: int
    unchanged: int
    deleted: int
    duplicates: int
    quarantined: int
    empty: int
    kept: int = 0


class Estimate(Part):
    """How long the work should take, and where that number comes from."""

    seconds: float | None
    source: str


class ReleaseName(Part):
    """A release and the log entry that first published it."""

    release: str
    number: int


class ShardPlan(Part):
    """A contiguous fingerprint range of the rows to compute; `cost` is in characters and images."""

    name: str
    rows: int
    cost: int
    file: FileEntry


class Stack(Part):
    """What computes vectors: software, and the kind of device. Another one may move them."""

    runtime: str
    runtime_version: str
    device: str
    libraries: dict[str, str]


class Profile(Part):
    """Everything beside package and row order that may move a vector's bits; recorded with every attempt.

    `libraries` has the versions of what decodes and tokenizes, such as {"tokenizers": "0.21.0"}.
    """

    runtime: str
    runtime_version: str
    device: str
    precision: str
    threads: int
    batch_tokens: int
    batch_images: int
    libraries: dict[str, str]

    @property
    def stack(self) -> Stack:
        """The part that is not a setting of this run: what upgrades and other machines change."""
        return Stack(
            runtime=self.runtime,
            runtime_version=self.runtime_version,
            device=self.device.partition(":")[0],
            libraries=self.libraries,
        )


AnyPart = TypeVar("AnyPart", bound=Part)


def distinct(parts: Iterable[AnyPart]) -> tuple[AnyPart, ...]:
    """Each once, in an order that does not depend on theirs."""
    found = {canonical_json(part.model_dump(mode="json")): part for part in parts}
    return tuple(found[key] for key in sorted(found))


class Numerics(Part):
    """Which vectors may stand beside each other: those of one epoch.

    `epoch` is in the encoder digest. Each of `stacks` computed vectors of this epoch, or its goldens within
    tolerance. `why` says what comparing goldens found when the run was planned; empty where nothing differed.
    """

    epoch: int = 0
    stacks: tuple[Stack, ...] = ()
    why: str = ""


class Salvaged(Part):
    """Vectors that another run computed and never published; copied, so that nothing rests on that run.

    `parts` lie in the release's own folder, ascending in fingerprints; `frozen` has inputs of some of their
    rows, to make goldens of.
    """

    run: str
    parts: tuple[FileEntry, ...]
    thumbnails: tuple[FileEntry, ...] = ()
    by_content: tuple[FileEntry, ...] = ()
    frozen: tuple[FileEntry, ...]
    profiles: tuple[Profile, ...]


class Plan(Document):
    """The frozen work of one run. Everything after it is a function of it.

    `goldens`: raw inputs with vectors, which a worker whose stack is not in `numerics` must reproduce.
    `calibration`: what the planner measured of its machine; None: workers have defaults.
    """

    SCHEMA: ClassVar[str] = "plan/1"

    run: str
    pipeline: PipelineSpec
    root: str
    created: str
    base: ReleaseName | None
    catalog_digest: str
    model: tuple[FileEntry, ...]
    package_digest: str
    encoder_digest: str
    numerics: Numerics = Numerics()
    goldens: FileEntry | None = None
    dimension: int
    items: Counts
    excluded: int
    compute: int
    reused_vectors: int
    salvaged: tuple[Salvaged, ...] = ()
    why: str
    shards: tuple[ShardPlan, ...]
    item_parts: tuple[FileEntry, ...]
    quarantine: FileEntry
    estimate: Estimate
    calibration: Calibration | None = None

    @property
    def batch_tokens(self) -> int:
        """Of every worker's batches: what the pipeline states, else what was measured."""
        measured = self.calibration.chosen.batch_tokens if self.calibration else BATCH_TOKENS
        return self.pipeline.work.batch_tokens or measured

    @property
    def threads(self) -> int:
        """Of each loop that the planner's machine runs."""
        return self.calibration.chosen.threads if self.calibration else 1


class CommitRecord(Document):
    """The attempt that won a shard. Created once: it is the arbiter.

    `contents` has the SHA-256 of each image that came by reference, in the order of the shard's rows. Of rows
    with a vector, `thumbnails` are small pictures, and `by_content` says what references led to; `copied`
    of the vectors were there already, for the same content. In these `seconds` so many `lanes` computed.
    """

    SCHEMA: ClassVar[str] = "commit/1"

    run: str
    shard: str
    attempt: str
    worker: str
    vectors: FileEntry | None
    rejected: FileEntry | None
    contents: FileEntry | None = None
    thumbnails: FileEntry | None = None
    by_content: FileEntry | None = None
    copied: int = 0
    profile: Profile
    rows: int
    seconds: float
    lanes: int = 1
    created: str


class Lease(Document):
    """Who works on a shard. Advisory: it saves work and decides nothing."""

    SCHEMA: ClassVar[str] = "lease/1"

    shard: str
    worker: str
    host: str
    pid: int
    process_started: float
    beat: int


class Segment(Part):
    """Vectors that one release wrote, in parts sorted by fingerprint, and their index.

    `thumbnails` and `by_content` are named as the parts whose rows they are about; not every part has them.
    `search_effort` (efSearch) is what the index needed for `recall`, recall@10 of rows that were held out.
    """

    name: str
    parts: tuple[FileEntry, ...]
    index: FileEntry | None
    search_effort: int | None = None
    recall: float | None = None
    thumbnails: tuple[FileEntry, ...] = ()
    by_content: tuple[FileEntry, ...] = ()
    rows: int
    live: int

    @property
    def files(self) -> tuple[FileEntry, ...]:
        """Every file of it."""
        return (*self.parts, *((self.index,) if self.index else ()), *self.thumbnails, *self.by_content)


class Content(Document):
    """What a candidate holds. A release is CONTENT, the gates' verdicts and a report."""

    SCHEMA: ClassVar[str] = "content/1"

    release: str
    pipeline: PipelineSpec
    created: str
    base: ReleaseName | None
    package_digest: str
    encoder_digest: str
    numerics: Numerics = Numerics()
    content_digest: str
    dimension: int
    dtype: Literal["float32"]
    items: tuple[FileEntry, ...]
    segments: tuple[Segment, ...]
    model: tuple[FileEntry, ...]
    goldens: tuple[FileEntry, ...]
    quarantine: FileEntry
    profiles: tuple[Profile, ...]
    counts: Counts
    embedded: int
    reused: int
    empty: int
    quarantined: int
    kept: int = 0
    computed: int
    compacted: bool
    seconds: float


class Verdict(Part):
    """What one gate says of a candidate."""

    gate: str
    passed: bool
    accepted: bool = False
    found: float | None = None
    limit: float | None = None
    message: str


class Gates(Document):
    """All verdicts on one candidate."""

    SCHEMA: ClassVar[str] = "gates/1"

    release: str
    baseline: ReleaseName | None
    verdicts: tuple[Verdict, ...]
    created: str

    @property
    def passed(self) -> bool:
        """Whether nothing stands against publishing."""
        return all(verdict.passed or verdict.accepted for verdict in self.verdicts)


class Manifest(Document):
    """Every file of a release. `digest` is the SHA-256 of this document's bytes with `digest` empty."""

    SCHEMA: ClassVar[str] = "manifest/1"

    release: str
    content_digest: str
    files: tuple[FileEntry, ...]
    created: str
    digest: str = ""

    def sealed(self) -> Manifest:
        """This manifest with its own digest filled in."""
        empty = self.model_copy(update={"digest": ""})
        return empty.model_copy(update={"digest": sha256(empty.to_bytes())})


class Fetched(Document):
    """Beside the manifest of a fetched release: where it came from, and its number in the log there."""

    SCHEMA: ClassVar[str] = "fetched/1"

    release: str
    number: int | None
    url: str
    manifest_digest: str
    created: str


class Terminal(Document):
    """How a run ended. Created once, kept for ever."""

    SCHEMA: ClassVar[str] = "terminal/1"

    run: str
    outcome: Literal["publish", "abandon"]
    number: int | None
    why: str
    created: str


class Drain(Document):
    """All workers of an open run are to stop after their batch; removed when the run is gone on with.

    Under `leave/<worker>.json` it is that worker alone, after its shard; removed when it is started again.

    What lies in the store is `active`; what is not is only told.
    """

    SCHEMA: ClassVar[str] = "drain/1"

    run: str
    active: bool
    created: str


class LogEntry(Document):
    """One step of a pipeline's history. Created once under its number, never rewritten or deleted."""

    SCHEMA: ClassVar[str] = "log/1"

    number: int
    kind: Literal["publish", "rollback", "unhold", "pin", "unpin", "retire"]
    release: str
    manifest_digest: str
    parent: str
    transaction: str
    note: str
    created: str
