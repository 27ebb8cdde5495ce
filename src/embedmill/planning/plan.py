"""The plan of one run: read the catalog once, compare it with the live release, freeze what must be computed.

Data flows one way: catalog → scan (fingerprints, spilled by id and by fingerprint) → join by id (item
parts, counts) → freeze by fingerprint (shards) → plan.json, which is written last and makes it all count.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING, Self

import numpy as np
import pyarrow as pa

from embedmill.catalog import CatalogReader, ImageSource
from embedmill.errors import CatalogError, ObjectMissing, ReleaseCorrupt, SpecError
from embedmill.hashing import Hasher
from embedmill.index import require_faiss
from embedmill.model.images import decoder_versions, decoders_among
from embedmill.model.lanes import lanes_of
from embedmill.planning.alike import shaping
from embedmill.planning.base import retyped_ids
from embedmill.planning.calibrate import Calibrator
from embedmill.planning.estimate import Measured, estimate_work
from embedmill.planning.freeze import count_distinct, freeze
from embedmill.planning.join import Join, join_ids
from embedmill.planning.keep import Kept, check_unchanged, create_plan, taken_back_on_failure
from embedmill.planning.numerics import Here, decide_numerics
from embedmill.planning.salvage import Salvage
from embedmill.planning.scan import SPILLS, Scan, Scanner
from embedmill.planning.shards import FrozenShard
from embedmill.release.items import FINGERPRINT, ID, OWN_COLUMNS, STATE
from embedmill.release.keys import TableKeys
from embedmill.release.layout import Home
from embedmill.release.numerics import goldens_entry, planned_goldens
from embedmill.release.quarantine import QuarantineWriter
from embedmill.release.refusals import Refusals
from embedmill.spec.document import canonical_json, sha256
from embedmill.spec.documents import Counts, FileEntry, Numerics, Plan, ReleaseName
from embedmill.store.cache import beside
from embedmill.store.scratch import scratch_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from embedmill.model import ModelPackage
    from embedmill.release.item_keys import KnownKeys
    from embedmill.release.reader import Release
    from embedmill.spec import PipelineSpec
    from embedmill.types import Digests, Mask

SHOWN = frozenset({"score", "vector", *OWN_COLUMNS})
FROZEN = frozenset({FINGERPRINT, "_row", "_cost", "_vector"})


@dataclass(frozen=True)
class Planner:
    """Plans runs of one pipeline. `root` is the folder that the spec's paths are relative to.

    `hasher` makes what digests the catalog; the plan is the same whatever it is. `calibrator` decides how
    this machine's workers compute; None: one of the spec's own. Unless it `starts_anew`, `on_work` is called
    once all rows are read, if any lacks a vector; duplicates count.

    Its `with` block lets go of the model that it loaded, so that it is not there beside the workers'.
    """

    home: Home
    spec: PipelineSpec
    root: Path
    package: ModelPackage
    base: Release | None
    hasher: Callable[[], Hasher] = Hasher
    calibrator: Calibrator | None = None
    on_work: Callable[[], None] = lambda: None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._here.close()

    def plan(
        self, on_rows: Callable[[int], None] = lambda _: None, others: Iterable[Plan] = ()
    ) -> tuple[Plan, KnownKeys]:
        """Plan a new run and freeze its work in the store; nothing is computed yet.

        `on_rows` hears of rows as they are read; vectors that `others`, unpublished runs, have committed
        are taken over. Beside the plan comes what it leaves of its items for a join in the same process.

        Raises:
            CatalogError: The catalog cannot be read.
            SpecError: A column has a name that results need.
            ModelError: The package changed meanwhile.
        """
        self._check_names()
        reader, run = self.reader, self.home.new_run()
        alike = [
            other
            for other in others
            if other.encoder_digest == self.encoder_digest and not self.outgrown(other)
        ]
        images = ImageSource(self.spec.catalog, root=self.root, store=self.home.store)
        with (
            taken_back_on_failure(self.home, run),
            scratch_folder() as scratch,
            ThreadPoolExecutor(SPILLS, "spill") as writers,
        ):
            salvage = Salvage.collect(self.home, run, alike)
            file = scratch / "quarantine.parquet"
            with QuarantineWriter(file) as quarantine, self.hasher() as hasher:
                refusals = self._refusals(alike)
                known = cache(partial(self._known, scratch / "known"))  # when first rows are looked for
                scanner = self._scanner(reader, images, quarantine, salvage, refusals, hasher, known)
                scan = scanner.run(scratch, on_rows, writers)
                hasher.close()
                pa.default_memory_pool().release_unused()  # what comes next needs pieces of other sizes
                self._check_not_empty(scan)
                if scan.by_fingerprint.filled() and not self.starts_anew:
                    self.on_work()
                base_items = self.base.items([ID, FINGERPRINT, STATE]) if self.base else ()
                keeps = self._reuses() and self.spec.catalog.fetch.on_error == "keep_previous"
                counts = scan.reuses or keeps  # else each fingerprint of an item is frozen, and counted there
                join = join_ids(
                    scratch, scan.rows, scan.by_id, base_items, quarantine, keeps=keeps, counts=counts
                )
                pa.default_memory_pool().release_unused()
            with self._here.opened_beside() if self._samples(scan, images) else nullcontext():
                shards = freeze(
                    scratch / "frozen", scan.by_fingerprint, join.dropped, self.spec.work.shard_rows
                )
            frozen = sum(shard.rows for shard in shards)
            distinct = frozen if join.kept_prints is None else count_distinct(join.kept_prints)
            if self.spec.index.kind == "hnsw" and distinct >= self.spec.index.exact_below:
                require_faiss()
            plan = self._document(
                run, reader, scan, join, quarantine.rows, distinct, shards, file, salvage, images
            )
        keys = dict(zip((part.sha256 for part in plan.item_parts), join.keys, strict=True))
        return create_plan(self.home, plan), keys

    def outdated(self, plan: Plan, live: ReleaseName | None) -> str:
        """Why an open run's plan is not what would be planned now, on top of `live`; empty if it is."""
        if plan.base != live:
            return "another release went live since"
        if plan.package_digest != self.package.package_digest():
            return "the model package changed since"
        if shaping(plan.pipeline) != shaping(self.spec) or plan.root != str(self.root):
            return "the pipeline's spec changed since"
        return "" if plan.catalog_digest == self.catalog_digest(self.reader) else "the catalog changed since"

    def outgrown(self, plan: Plan) -> str:
        """Why vectors of this machine do not fit to those of an unpublished run; empty if they do."""
        try:
            found = self._here.compare(plan.numerics.stacks, lambda: planned_goldens(self.home, plan))
        except (ObjectMissing, ReleaseCorrupt) as error:
            return f"its goldens are gone: {error.message}"
        return f"the numerics are not those that it was planned with ({found})" if found.moved else ""

    def had_its_chance(self, plan: Plan) -> bool:
        """Whether the live release was planned when this unpublished run was already behind: it took what it
        wanted. True of runs on releases before the live one's own base; else each would be copied for ever.
        """
        before = self.base.content.base if self.base else None
        return before is not None and (plan.base is None or plan.base.number < before.number)

    @cached_property
    def reader(self) -> CatalogReader:
        """The catalog, as the spec and the model want it read; found once."""
        version = self.spec.catalog.image_version
        inputs = self.package.inputs("item")
        asked = dict.fromkeys(
            [version] if version and inputs.image_fields else [], "catalog.image_version names"
        )
        asked |= dict.fromkeys(self.spec.catalog.display, "catalog.display names")
        asked |= dict.fromkeys(inputs.fields, f"the model {self.spec.model} reads")
        columns = [*inputs.fields, *self.spec.catalog.display, *asked]
        catalog = self.spec.catalog
        return CatalogReader(catalog, root=self.root, store=self.home.store, columns=columns, asked=asked)

    def catalog_digest(self, reader: CatalogReader) -> str:
        """Changes when the source's files, or what is read of them, change."""
        files = [[file.name, file.size_bytes, file.version] for file in reader.files]
        spec = self.spec.catalog.model_dump(mode="json")
        inputs = self.package.inputs("item").model_dump(mode="json")
        return sha256(canonical_json({"files": files, "catalog": spec, "inputs": inputs}))

    def _refusals(self, others: Iterable[Plan]) -> Refusals:
        """What the decoders of this machine refused for this very encoder."""
        decoders = decoders_among(decoder_versions())
        if not self.package.inputs("item").image_fields:
            return Refusals(decoders)
        return Refusals.collect(self.home, decoders, self.base if self._reuses() else None, others)

    def _scanner(
        self,
        reader: CatalogReader,
        images: ImageSource,
        quarantine: QuarantineWriter,
        salvage: Salvage,
        refusals: Refusals,
        hasher: Hasher,
        known: Callable[[], TableKeys | None],
    ) -> Scanner:
        return Scanner(
            reader=reader,
            images=images,
            inputs=self.package.inputs("item"),
            id_column=self.spec.catalog.id,
            display=tuple(dict.fromkeys(self.spec.catalog.display)),
            version_column=self.spec.catalog.image_version,
            exists=lambda prints: _exists(prints, known(), salvage),
            refusals=refusals,
            quarantine=quarantine,
            hasher=hasher,
        )

    @cached_property
    def _here(self) -> Here:
        return Here(self.package, self.spec.work)

    @cached_property
    def numerics(self) -> Numerics:
        """The epoch that a new run computes in, and what it rests on; a live release's goldens may decide."""
        return decide_numerics(self.home, self.package, self.base, self._here)

    @cached_property
    def encoder_digest(self) -> str:
        """Of the `item` encoder in that epoch."""
        return self.package.encoder_digest(epoch=self.numerics.epoch)

    @property
    def starts_anew(self) -> bool:
        """Whether the live release surely has no vector to reuse; the model need not be loaded to know."""
        base = self.base.content if self.base else None
        if base is None:
            return True
        return base.encoder_digest != self.package.encoder_digest(epoch=base.numerics.epoch)

    def _reuses(self) -> bool:
        return self.base is not None and self.base.content.encoder_digest == self.encoder_digest

    def _known(self, file: Path) -> TableKeys | None:
        """Vectors of the live release that were made by this very encoder."""
        if self.base is None or not self._reuses():
            return None
        return TableKeys(self.base.table, file, digests=False)

    def _check_names(self) -> None:
        """Columns of ours are put beside those of the catalog."""
        hint = "rename the column in the source"
        clash = (SHOWN - {self.spec.catalog.id}) & set(self.spec.catalog.display)
        if clash:
            names = ", ".join(sorted(clash))
            raise SpecError(f"`catalog.display`: the names {names} are taken by search results", hint=hint)
        clash = FROZEN & set(self.package.inputs("item").fields)
        if clash:
            names = ", ".join(sorted(clash))
            raise SpecError(f"{self.package.root}: a model may not read a column {names}", hint=hint)

    def _check_not_empty(self, scan: Scan) -> None:
        """An empty catalog is a broken feed far more often than a wish to publish nothing."""
        if scan.total == 0:
            left_out = f"; `where` left out all {scan.excluded}" if scan.excluded else ""
            raise CatalogError(
                f"{self.spec.catalog.source}: the catalog has no rows{left_out}",
                hint="the live release stays; check the feed that writes it",
            )

    def _document(
        self,
        run: str,
        reader: CatalogReader,
        scan: Scan,
        join: Join,
        quarantined: int,
        distinct: int,
        shards: list[FrozenShard],
        quarantine: Path,
        salvage: Salvage,
        images: ImageSource,
    ) -> Plan:
        kept = Kept(self.home, run)
        compute = sum(shard.rows for shard in shards)
        keep = partial(kept.shards_and_model, shards, self.package, self.base)
        self.package.file_digests()  # before the model is loaded beside its copy, so that a change shows
        with beside(self.home.store, keep) as stored:
            goldens, measured = self._goldens(kept, shards, images)  # computes, while disks are waited for
            frozen, model = stored()
        calibrator = self.calibrator or Calibrator(self.spec, self.home.world)
        lanes = 1 if calibrator.one_thread or "local" not in self.spec.engines else lanes_of(self.package)
        estimate = estimate_work(
            shards, self.package, self.base, images, self.spec.work, self._here.encoder, measured, lanes
        )
        self._here.check_agreement(estimate, self.base)
        calibration = calibrator.calibration(shards, estimate, self._here.encoder)
        check_unchanged(self.package)  # it may have been loaded after it was kept
        return Plan(
            run=run,
            pipeline=self.spec,
            root=str(self.root),
            created=self.home.now(),
            base=self.base_name,
            catalog_digest=self.catalog_digest(reader),
            model=model,
            package_digest=self.package.package_digest(),
            encoder_digest=self.encoder_digest,
            numerics=self.numerics,
            goldens=goldens,
            dimension=self.package.spec.dimension,
            items=_counts(scan, join, quarantined, distinct),
            excluded=scan.excluded,
            compute=compute,
            reused_vectors=distinct - compute,
            salvaged=salvage.used,
            why=self._why(distinct, compute, salvage)
            + retyped_ids(self.base, reader.schema.field(self.spec.catalog.id)),
            shards=frozen,
            item_parts=kept.item_parts(join.parts),
            quarantine=kept.file("planned", quarantine, quarantined),
            estimate=estimate,
            calibration=calibration,
        )

    @property
    def base_name(self) -> ReleaseName | None:
        """The live release, on top of which is planned."""
        if self.base is None or self.base.number is None:
            return None
        return ReleaseName(release=self.base.name, number=self.base.number)

    def _why(self, distinct: int, compute: int, salvage: Salvage) -> str:
        if not distinct:
            return "no item can be embedded: each is quarantined, or has an empty input"
        if not compute:
            return "every vector is there"
        saved = ", ".join(source.run for source in salvage.used)
        but = f"; what run {saved} had finished is taken over" if saved else ""
        if self.base is None:
            return f"nothing was published yet, so every vector is new{but}"
        if self._new_epoch():
            return f"{self.numerics.why}, so every vector is new{but}"
        if not self._reuses():
            return f"the encoder is not that of release {self.base.name}, so every vector is new{but}"
        return f"only inputs that the live release has no vector for are computed{but}"

    def _new_epoch(self) -> bool:
        return self.base is not None and self.numerics.epoch != self.base.content.numerics.epoch

    def _samples(self, scan: Scan, images: ImageSource) -> bool:
        """Whether some rows are likely to be embedded by this process, to measure them."""
        return bool(scan.by_fingerprint.filled()) and not (self._reuses() or images.has_urls)

    def _goldens(
        self, kept: Kept, shards: list[FrozenShard], images: ImageSource
    ) -> tuple[FileEntry | None, Measured | None]:
        """What workers of another stack have to reproduce: the base's goldens, or some rows, measured."""
        if self.base is not None and self._reuses():
            return goldens_entry(self.base), None
        with scratch_folder() as scratch:
            sample = self._here.sample(shards, images, scratch)
            if sample is None:
                return None, None
            return kept.file("goldens", sample.file, sample.rows), sample.measured


def _counts(scan: Scan, join: Join, quarantined: int, distinct: int) -> Counts:
    return Counts(
        total=scan.total,
        new=join.new,
        changed=join.changed,
        unchanged=join.unchanged,
        deleted=join.deleted,
        duplicates=join.new + join.changed + join.unchanged - join.empty - distinct,
        quarantined=quarantined,
        empty=join.empty,
        kept=join.kept,
    )


def _exists(prints: Digests, known: TableKeys | None, salvage: Salvage) -> Mask:
    """bool[N]: fingerprints whose vectors are there."""
    live: Mask = np.zeros(len(prints), dtype=np.bool_) if known is None else known.locate(prints) >= 0
    return live | salvage.have(prints, ~live)
