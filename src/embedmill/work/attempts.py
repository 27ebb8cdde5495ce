"""What becomes of one shard: its frozen rows are read and made ready, embedded, and written with a record."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from embedmill.catalog import ImageSource
from embedmill.catalog.frozen import content_digests, with_images
from embedmill.digest import digests_from_arrow
from embedmill.errors import ReleaseCorrupt, RunClosed
from embedmill.release.contents import BY_CONTENT, write_contents
from embedmill.release.originals import Originals
from embedmill.release.runs import abandon
from embedmill.release.stamps import frozen_file
from embedmill.release.thumbnails import THUMBNAILS, write_thumbnails
from embedmill.release.vectors import write_vectors
from embedmill.spec.documents import CommitRecord, FileEntry
from embedmill.work.sharing import Sharing, content_prints

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from embedmill.model import Encoder
    from embedmill.model.encoder import Feeding, ReadyRows
    from embedmill.release.layout import Home
    from embedmill.spec.documents import Plan, Profile, ShardPlan
    from embedmill.types import Digests, Encoded, Rejection, Rows, Vectors
    from embedmill.work.stages import StageTimes


class ShardRows(NamedTuple):
    """What is written of a shard beside its vectors: little, so that it may wait.

    `images` has digests of what references led to, `contents` S16[N] those of whole rows; None where no image
    is a reference.
    """

    shard: ShardPlan
    fingerprints: Digests
    sharing: Sharing
    images: pa.Table | None
    contents: Digests | None


class Ready(NamedTuple):
    """A shard that the runtime can begin with. `wanted`: what it embeds; `began_s`: when it was begun."""

    rows: ShardRows
    wanted: ReadyRows
    began_s: float


@dataclass(frozen=True)
class Attempts:
    """Tries at shards of one run. The three steps may be three threads', each its own one.

    `check` raises where work is to stop; it is asked while images are waited for.
    """

    home: Home
    plan: Plan
    encoder: Encoder
    worker: str
    scratch: Path
    times: StageTimes
    check: Callable[[], None]

    def ready(self, shard: ShardPlan) -> Ready:
        """Read a shard, fetch its images, tokenize its texts.

        Where images are references, contents that have a vector already are not `wanted`.

        Raises:
            RunClosed: Its frozen rows are damaged.
        """
        began_s = self.home.world.monotonic()
        inputs = self.encoder.package.inputs("item")
        with self.times.during("read"):
            frozen = self._read(shard)
        with self.times.during("fetch"):
            found, missing = with_images(frozen, inputs.image_fields, self._images, lambda _: self.check())
            images, contents = content_digests(frozen, found), None
            sharing = Sharing.none(len(frozen), missing)
            if images is not None:
                contents = content_prints(inputs, found, self._images)
                sharing = Sharing.of(contents, missing, self._originals.find)
        with self.times.during("prepare"):
            if len(sharing.wanted) < len(frozen):
                found = found.take(pa.array(sharing.wanted))
            wanted = self.encoder.prepare(found)
        fingerprints = digests_from_arrow(frozen.column("_fingerprint"))
        return Ready(ShardRows(shard, fingerprints, sharing, images, contents), wanted, began_s)

    def embed(
        self, encoder: Encoder, ready: Ready, on_batch: Callable[[int], None], feeding: Feeding
    ) -> Encoded:
        """The vectors of what is `wanted` of a shard; what `on_batch` raises ends this.

        Raises:
            OutOfMemory, MemoryError: There is too little for a batch of this encoder.
        """
        with self.times.during("runtime"):
            return encoder.compute(self.wanted(encoder, ready), on_batch=on_batch, feeding=feeding)

    def wanted(self, encoder: Encoder, ready: Ready) -> ReadyRows:
        """What is `wanted` of a shard, in batches of this encoder."""
        return ready.wanted if encoder is self.encoder else encoder.recut(ready.wanted)

    def write(
        self, rows: ShardRows, computed: Encoded, profile: Profile, began_s: float
    ) -> CommitRecord | None:
        """Write files and the commit record; None if another attempt was committed first."""
        with self.times.during("write"):
            return self._written(rows, computed, profile, began_s)

    def _written(
        self, rows: ShardRows, computed: Encoded, profile: Profile, began_s: float
    ) -> CommitRecord | None:
        shard, fingerprints, attempt = rows.shard, rows.fingerprints, self.home.new_attempt()
        encoded = rows.sharing.of_all(computed)
        kept = np.setdiff1d(np.arange(len(fingerprints)), list(encoded.rejected))
        record = CommitRecord(
            run=self.plan.run,
            shard=shard.name,
            attempt=attempt,
            worker=self.worker,
            vectors=self._keep_vectors(shard, attempt, fingerprints[kept], encoded.vectors_ND[kept]),
            rejected=self._keep_rejected(shard, attempt, fingerprints, encoded.rejected),
            contents=self._keep_contents(shard, attempt, rows.images),
            thumbnails=self._keep_thumbnails(shard, attempt, fingerprints, encoded),
            by_content=self._keep_by_content(shard, attempt, fingerprints[kept], rows.contents, kept),
            copied=rows.sharing.copied(encoded),
            profile=profile,
            rows=len(fingerprints),
            seconds=round(self.home.world.monotonic() - began_s, 3),
            lanes=computed.lanes,
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
            file = frozen_file(self.home, shard.file)
        except ReleaseCorrupt as error:
            closed = abandon(self.home, self.plan.run, error.message)
            hint = "run again: it makes a new plan"
            raise RunClosed(f"run {self.plan.run} was closed: {closed.why}", hint=hint) from error
        with pa.memory_map(str(file)) as source:
            table = pa.ipc.open_file(source).read_all()
        return table.combine_chunks().to_batches()[0]

    @cached_property
    def _originals(self) -> Originals:
        return Originals(self.home, self.plan)

    @cached_property
    def _images(self) -> ImageSource:
        """One for all shards: it remembers hosts that are dead."""
        catalog = self.plan.pipeline.catalog
        store, lanes = self.home.store, self.encoder.lanes
        return ImageSource(catalog, root=Path(self.plan.root), store=store, loops=lanes)

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
        _write_parquet(_rejected_table(prints, rejected), file)
        key = self.home.run_key(self.plan.run, "rejected", f"{shard.name}.{attempt}.parquet")
        return self.home.keep(key, file, relative_to=self.home.pipeline, rows=len(rejected))

    def _keep_contents(self, shard: ShardPlan, attempt: str, contents: pa.Table | None) -> FileEntry | None:
        if contents is None:
            return None
        file = self.scratch / "contents.parquet"
        _write_parquet(contents, file)
        key = self.home.run_key(self.plan.run, "contents", f"{shard.name}.{attempt}.parquet")
        return self.home.keep(key, file, relative_to=self.home.pipeline, rows=len(contents))


def _write_parquet(table: pa.Table, file: Path) -> None:
    import pyarrow.parquet as pq  # here, for most loops write none

    pq.write_table(table, file)


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
