"""The worker loop: claim a shard, embed it, write its vectors, create its commit record; until none is left.

Everything comes from the store and goes there: a loop may start late, stop early, or die anywhere.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embedmill.catalog import ImageSource
from embedmill.catalog.frozen import content_digests, with_images
from embedmill.decoding.process import DecodingLimits
from embedmill.digest import digests_from_arrow
from embedmill.errors import ModelError, ObjectMissing, ReleaseCorrupt, RunClosed, RunMissing, Yielded
from embedmill.model import Encoder, ModelPackage
from embedmill.model.images import ImageDecoder, decoders_beside
from embedmill.release.contents import BY_CONTENT, write_contents
from embedmill.release.draining import DRAINED, SENT_AWAY, DrainWatch, is_drained, is_sent_away
from embedmill.release.layout import Home
from embedmill.release.numerics import check_numerics
from embedmill.release.originals import Originals
from embedmill.release.publish import abandon
from embedmill.release.runs import check_not_over, check_open, read_plan
from embedmill.release.thumbnails import THUMBNAILS, write_thumbnails
from embedmill.release.vectors import write_vectors
from embedmill.spec.documents import CommitRecord, FileEntry, Plan, ShardPlan
from embedmill.store.pace import Pace
from embedmill.store.scratch import scratch_folder
from embedmill.types import Encoded, Rejection
from embedmill.work.heartbeat import Heartbeat
from embedmill.work.leases import HeldLease, Leases
from embedmill.work.sharing import Sharing, content_prints
from embedmill.work.stragglers import Patience
from embedmill.work.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from embedmill.types import Digests, Rows, Vectors


@dataclass(frozen=True)
class WorkerOptions:
    """How one loop runs. `parent` is the pid whose end ends the loop; None: none.

    Without `heartbeat_thread` leases beat between two batches only. `decoding`: what one image may take.
    `watch_gpus`: UUIDs of GPUs that are given back when somebody else comes; if it must be, the process is
    ended. `gpu_memory_mib`: the most memory of a GPU that it takes; None: as the model says. `where`: `host`,
    `gpu` and `image`, for people. `listener` gets each `event/1` as a line.
    """

    worker: str
    device: str = "cpu"
    threads: int = 1
    parent: int | None = None
    heartbeat_thread: bool = True
    decoding: DecodingLimits | None = None
    watch_gpus: tuple[str, ...] = ()
    gpu_memory_mib: int | None = None
    where: Mapping[str, str] = field(default_factory=dict)
    listener: Callable[[bytes], None] | None = None


@dataclass(frozen=True)
class WorkDone:
    """What one loop did."""

    shards: int
    vectors: int
    rejected: int


def work(home: Home, run: str, options: WorkerOptions) -> WorkDone:
    """Work on a run until every shard has a commit record.

    Raises:
        RunMissing: There is no such run.
        Yielded: The device was wanted back, or the parent ended; finished shards are kept.
        RunClosed: Somebody gave the run up; or this loop did, since its frozen rows are damaged.
        ModelError: The model cannot be loaded, or is not the planned one.
        DecodersFailed: No process that decodes images can be started.
        NumericsMoved: What is installed here makes other vectors than the run has.
    """
    home.check_fit()
    plan = read_plan(home, run)
    if plan is None:
        check_not_over(home, run)
        raise RunMissing(f"{home.url}: no run {run!r}", hint="`embedmill status` shows those that are open")
    if not plan.shards:
        return WorkDone(0, 0, 0)
    try:
        with (
            scratch_folder() as scratch,
            Watchdog(options.watch_gpus) as watchdog,
            _heartbeat(home, run, options, watchdog) as heart,
            _load_encoder(home, plan, options, scratch, watchdog) as encoder,
        ):
            return _Loop(home, plan, encoder, options, heart, scratch).run()
    except (ReleaseCorrupt, ObjectMissing):
        check_not_over(home, run)  # files of an ended run are collected, whoever is at work on it
        raise


def _heartbeat(home: Home, run: str, options: WorkerOptions, watchdog: Watchdog) -> Heartbeat:
    return Heartbeat(
        home,
        run,
        options.worker,
        options.parent,
        threaded=options.heartbeat_thread,
        reasons=(watchdog.reason, DrainWatch(home, run)),
        urgent=bool(options.watch_gpus),
        where=options.where,
        listener=options.listener,
    )


def _load_encoder(
    home: Home, plan: Plan, options: WorkerOptions, scratch: Path, watchdog: Watchdog
) -> Encoder:
    """The planned model, every byte checked, on this loop's device."""
    root = home.materialize(plan.model, home.release_key(plan.run), scratch / "package") / "model"
    package = ModelPackage.open(root)
    if package.encoder_digest(epoch=plan.numerics.epoch) != plan.encoder_digest:
        raise ModelError(
            f"{root}: is not the model that run {plan.run} was planned with", hint="start a new run"
        )
    watchdog.know_limits(package.spec.runtimes_for("item"), options.gpu_memory_mib)
    settings = plan.pipeline.work
    encoder = Encoder.load(
        package,
        "item",
        device=options.device,
        threads=options.threads,
        batch_tokens=settings.batch_tokens,
        batch_images=settings.batch_images,
        gpu_memory_mib=options.gpu_memory_mib,
        decoder=ImageDecoder(
            children=decoders_beside(options.device, options.threads),
            limits=options.decoding,
            thumbnails=plan.pipeline.catalog.thumbnails,
        ),
    )
    with contextlib.ExitStack() as unless_checked:
        unless_checked.callback(encoder.close)
        check_numerics(home, plan, encoder)
        unless_checked.pop_all()
    return encoder


class _Made(NamedTuple):
    """What a shard's rows became; `copied` vectors were there.

    `images` has digests of what references led to, `contents` S16[N] those of whole rows; None where no image
    is a reference.
    """

    encoded: Encoded
    copied: int
    images: pa.Table | None
    contents: Digests | None


@dataclass
class _Loop:
    home: Home
    plan: Plan
    encoder: Encoder
    options: WorkerOptions
    heart: Heartbeat
    scratch: Path

    def run(self) -> WorkDone:
        shards = vectors = rejected = 0
        for shard, lease in self._claims():
            with self.heart.beating(lease):
                record = self._attempt(shard)
            if record is not None:
                shards += 1
                vectors += record.vectors.rows or 0 if record.vectors else 0
                rejected += record.rejected.rows or 0 if record.rejected else 0
        return WorkDone(shards, vectors, rejected)

    def _claims(self) -> Iterator[tuple[ShardPlan, HeldLease]]:
        """Shards to work on, until all are committed.

        Waits while others hold the last ones; for long, and it works on one of those, too.
        """
        leases = Leases(self.home, self.plan.run, self.options.worker)
        open_shards, pace, patience = list(self.plan.shards), Pace(self.home.store), Patience(self.home.world)
        again = False
        while open_shards:
            done = self._committed()
            open_shards = [shard for shard in open_shards if shard.name not in done]
            claimed = False
            for shard in open_shards:
                self.heart.check()
                check_open(self.home, self.plan.run)
                self._check_not_drained()
                lease = leases.claim(shard.name)
                if lease is None and again:
                    lease = leases.claim(shard.name, again=True)
                if lease is not None and not self._is_committed(shard):
                    claimed, again = True, False
                    with patience.working():
                        yield shard, lease
                    self._check_not_sent_away()
            if claimed:
                pace.restart()
            elif open_shards:
                again = patience.is_over()
                self.home.world.sleep(pace.wait_s())

    def _check_not_drained(self) -> None:
        if is_drained(self.home, self.plan.run):
            raise Yielded(
                f"worker {self.options.worker} was asked to stop: {DRAINED}",
                hint="`embedmill resume` goes on",
            )

    def _check_not_sent_away(self) -> None:
        """Between two shards: one request a shard, since nothing waits for it."""
        if is_sent_away(self.home, self.plan.run, self.options.worker):
            raise Yielded(f"worker {self.options.worker} was asked to stop: {SENT_AWAY}")

    def _committed(self) -> set[str]:
        folder = self.home.run_key(self.plan.run, "commits")
        return {Path(info.key).stem for info in self.home.store.list(folder)}

    def _is_committed(self, shard: ShardPlan) -> bool:
        try:
            self.home.store.head(self.home.run_key(self.plan.run, "commits", f"{shard.name}.json"))
        except ObjectMissing:
            return False
        return True

    def _attempt(self, shard: ShardPlan) -> CommitRecord | None:
        """One try at a shard; None if another attempt was committed first."""
        started, attempt = self.home.world.monotonic(), self.home.new_attempt()
        rows = self._read(shard)
        fingerprints = digests_from_arrow(rows.column("_fingerprint"))
        made = self._encode(rows)
        encoded = made.encoded
        kept = np.setdiff1d(np.arange(len(rows)), list(encoded.rejected))
        record = CommitRecord(
            run=self.plan.run,
            shard=shard.name,
            attempt=attempt,
            worker=self.options.worker,
            vectors=self._keep_vectors(shard, attempt, fingerprints[kept], encoded.vectors_ND[kept]),
            rejected=self._keep_rejected(shard, attempt, fingerprints, encoded.rejected),
            contents=self._keep_contents(shard, attempt, made.images),
            thumbnails=self._keep_thumbnails(shard, attempt, fingerprints, encoded),
            by_content=self._keep_by_content(shard, attempt, fingerprints[kept], made.contents, kept),
            copied=made.copied,
            profile=self.encoder.profile,
            rows=len(rows),
            seconds=round(self.home.world.monotonic() - started, 3),
            created=self.home.now(),
        )
        key = self.home.run_key(self.plan.run, "commits", f"{shard.name}.json")
        winner = self.home.create(key, record)
        if winner.attempt == attempt:
            return record
        beside = (record.contents, record.thumbnails, record.by_content)
        for entry in (record.vectors, record.rejected, *beside):
            if entry is not None:  # the record is final: these can never be named
                self.home.store.delete(self.home.key(entry.path))
        return None

    def _read(self, shard: ShardPlan) -> pa.RecordBatch:
        """The shard's frozen rows. Where they are damaged nobody can finish the run: then it is closed."""
        try:
            file = self.home.verified(self.home.key(shard.file.path), shard.file)
        except ReleaseCorrupt as error:
            closed = abandon(self.home, self.plan.run, error.message)
            hint = "run again: it makes a new plan"
            raise RunClosed(f"run {self.plan.run} was closed: {closed.why}", hint=hint) from error
        with pa.memory_map(str(file)) as source:
            table = pa.ipc.open_file(source).read_all()
        return table.combine_chunks().to_batches()[0]

    def _encode(self, rows: pa.RecordBatch) -> _Made:
        """The rows' vectors; where images are references, contents that have one already are not embedded."""
        inputs = self.encoder.package.inputs("item")
        self.heart.start(len(rows))
        ready, missing = with_images(rows, inputs.image_fields, self._images, lambda _: self.heart.check())
        images, contents = content_digests(rows, ready), None
        sharing = Sharing.none(len(rows), missing)
        if images is not None:
            contents = content_prints(inputs, ready, self._images)
            sharing = Sharing.of(contents, missing, self._originals.find)
        if len(sharing.wanted) < len(rows):
            self.heart.advance(len(rows) - len(sharing.wanted))
            ready = ready.take(pa.array(sharing.wanted))
        encoded = sharing.of_all(self.encoder.encode(ready, on_batch=self.heart.advance))
        return _Made(encoded, sharing.copied(encoded), images, contents)

    @cached_property
    def _originals(self) -> Originals:
        return Originals(self.home, self.plan)

    @cached_property
    def _images(self) -> ImageSource:
        """One for all shards: it remembers hosts that are dead."""
        catalog = self.plan.pipeline.catalog
        return ImageSource(catalog, root=Path(self.plan.root), store=self.home.store)

    def _keep_vectors(
        self, shard: ShardPlan, attempt: str, prints: Digests, vectors: Vectors
    ) -> FileEntry | None:
        if not len(prints):
            return None
        file = self.scratch / "vectors.arrow"
        write_vectors(file, prints, vectors)
        name = f"part-{shard.name}.{attempt}.arrow"
        key = self.home.release_key(self.plan.run, "vectors", self.plan.run, name)
        return self.home.keep(key, file, relative_to=self.home.pipeline, rows=len(prints))

    def _keep_thumbnails(
        self, shard: ShardPlan, attempt: str, prints: Digests, encoded: Encoded
    ) -> FileEntry | None:
        rows = sorted(encoded.thumbnails.keys() - encoded.rejected.keys())
        if not rows:
            return None
        file = self.scratch / "thumbnails.arrow"
        write_thumbnails(file, prints[rows], [encoded.thumbnails[row] for row in rows])
        name = f"part-{shard.name}.{attempt}.arrow"
        key = self.home.release_key(self.plan.run, THUMBNAILS, self.plan.run, name)
        return self.home.keep(key, file, relative_to=self.home.pipeline, rows=len(rows))

    def _keep_by_content(
        self, shard: ShardPlan, attempt: str, prints: Digests, contents: Digests | None, kept: Rows
    ) -> FileEntry | None:
        if contents is None or not len(kept):
            return None
        file = self.scratch / "by-content.arrow"
        write_contents(file, contents[kept], prints)
        name = f"part-{shard.name}.{attempt}.arrow"
        key = self.home.release_key(self.plan.run, BY_CONTENT, self.plan.run, name)
        return self.home.keep(key, file, relative_to=self.home.pipeline, rows=len(kept))

    def _keep_rejected(
        self, shard: ShardPlan, attempt: str, prints: Digests, rejected: Mapping[int, Rejection]
    ) -> FileEntry | None:
        if not rejected:
            return None
        file = self.scratch / "rejected.parquet"
        pq.write_table(_rejected_table(prints, rejected), file)
        key = self.home.run_key(self.plan.run, "rejected", f"{shard.name}.{attempt}.parquet")
        return self.home.keep(key, file, relative_to=self.home.pipeline, rows=len(rejected))

    def _keep_contents(self, shard: ShardPlan, attempt: str, contents: pa.Table | None) -> FileEntry | None:
        if contents is None:
            return None
        file = self.scratch / "contents.parquet"
        pq.write_table(contents, file)
        key = self.home.run_key(self.plan.run, "contents", f"{shard.name}.{attempt}.parquet")
        return self.home.keep(key, file, relative_to=self.home.pipeline, rows=len(contents))


def _rejected_table(prints: Digests, rejected: Mapping[int, Rejection]) -> pa.Table:
    """Columns `fingerprint`, `reason`, `detail`, `lasting`."""
    rows = sorted(rejected)
    return pa.table(
        {
            "fingerprint": pa.array([bytes(prints[i]).ljust(16, b"\0") for i in rows], pa.binary(16)),
            "reason": [str(rejected[i].reason) for i in rows],
            "detail": [rejected[i].detail for i in rows],
            "lasting": [rejected[i].lasting for i in rows],
        }
    )
