"""What a plan leaves in the store: frozen shards, planned items, goldens, the model."""

from __future__ import annotations

import contextlib
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import TYPE_CHECKING

from embedmill.errors import ModelError, StoreError, StoreFull, StoreUnavailable
from embedmill.release.layout import PLAN
from embedmill.release.stamps import note_frozen
from embedmill.spec.documents import ShardPlan
from embedmill.store.cache import copy_all, in_parallel

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from threading import Event

    from embedmill.model.package import ModelPackage
    from embedmill.planning.shards import FrozenShard
    from embedmill.release.layout import Home
    from embedmill.release.reader import Release
    from embedmill.spec.documents import FileEntry, Plan


@dataclass(frozen=True)
class Kept:
    """Puts what was planned where the run's workers and its release find it."""

    home: Home
    run: str

    def file(self, folder: str, file: Path, rows: int) -> FileEntry:
        """A file of the run, copied."""
        key = self.home.run_key(self.run, folder, file.name)
        return self.home.keep(key, file, relative_to=self.home.pipeline, rows=rows)

    def item_parts(self, parts: Sequence[tuple[Path, int]]) -> tuple[FileEntry, ...]:
        """Files of planned items, each with its rows, which the store may adopt."""
        return tuple(in_parallel(self.home.store, lambda part: self._adopted("items", *part), parts))

    def shards(self, shards: Sequence[FrozenShard], given_up: Event) -> tuple[ShardPlan, ...]:
        """Frozen shards, which the store may adopt.

        Raises:
            CancelledError: Nobody waits for them any more.
        """

        def keep(shard: FrozenShard) -> ShardPlan:
            if given_up.is_set():
                raise CancelledError
            return self._shard(shard)

        kept = tuple(in_parallel(self.home.store, keep, shards))
        note_frozen(self.home, ((each.file, shard.file) for each, shard in zip(kept, shards, strict=True)))
        return kept

    def _shard(self, shard: FrozenShard) -> ShardPlan:
        entry = self._adopted("frozen", shard.file, shard.rows, shard.sha256)
        return ShardPlan(name=shard.name, rows=shard.rows, cost=shard.cost, file=entry)

    def _adopted(self, folder: str, file: Path, rows: int, digest: str | None = None) -> FileEntry:
        key = self.home.run_key(self.run, folder, file.name)
        return self.home.adopt(key, file, relative_to=self.home.pipeline, rows=rows, digest=digest)

    def shards_and_model(
        self, shards: Sequence[FrozenShard], package: ModelPackage, base: Release | None, given_up: Event
    ) -> tuple[tuple[ShardPlan, ...], tuple[FileEntry, ...]]:
        """Both, one after the other.

        Raises:
            CancelledError: Nobody waits for them any more.
            ModelError: The package changed since it was digested.
        """
        frozen = self.shards(shards, given_up)
        return frozen, self.model(package, base, given_up)

    def model(self, package: ModelPackage, base: Release | None, given_up: Event) -> tuple[FileEntry, ...]:
        """The package, taken from the live release where it has the same.

        A file whose copy began is copied whole, and so are all that the live release has.

        Raises:
            CancelledError: Nobody waits for it any more.
            ModelError: The package changed since it was digested: it may not be what was planned with.
        """
        try:
            kept = self._model(package, base, given_up)
        except (OSError, StoreError):  # perhaps for the want of a file
            check_unchanged(package)
            raise
        check_unchanged(package)
        return kept

    def _model(self, package: ModelPackage, base: Release | None, given_up: Event) -> tuple[FileEntry, ...]:
        if given_up.is_set():
            raise CancelledError
        if base is not None and base.content.package_digest == package.package_digest():
            model = base.content.model
            source, target = self.home.release_key(base.name), self.home.release_key(self.run)
            copy_all(self.home.store, [(f"{source}/{each.path}", f"{target}/{each.path}") for each in model])
            return model
        prefix = self.home.release_key(self.run)
        kept = []
        for name, digest in package.file_digests().items():
            if given_up.is_set():
                raise CancelledError
            key, file = f"{prefix}/model/{name}", package.root / name
            kept.append(self.home.keep(key, file, relative_to=prefix, digest=digest))
        return tuple(kept)


@contextlib.contextmanager
def taken_back_on_failure(home: Home, run: str) -> Iterator[None]:
    """Deletes what a run has in the store where the block fails. Before its plan nobody else knows of it.

    It would lie there for a week otherwise, and each try on a full disk would make it fuller. Nobody waits
    for a store that gave no answer, or after Ctrl-C for a bucket: collecting finds what is left.
    """
    try:
        yield
    except (Exception, KeyboardInterrupt) as failure:
        if isinstance(failure, StoreUnavailable) or (
            home.store.remote and isinstance(failure, KeyboardInterrupt)
        ):
            raise
        with contextlib.suppress(StoreError):
            _delete(home, run)
        raise


def create_plan(home: Home, plan: Plan) -> Plan:
    """Create plan.json, which makes all that was written before it count.

    A folder that is full took nothing, so that the rest is deleted. After any other failure the plan may be
    there, and needs what it names; in a bucket it may still come, of a try that got no answer before another
    one met the quota.
    """
    key = home.run_key(plan.run, PLAN)
    try:
        return home.create(key, plan)
    except StoreFull:
        with contextlib.suppress(StoreError):
            if not (home.store.remote or home.exists(key)):  # it is there if only its folder was not synced
                _delete(home, plan.run)
        raise


def _delete(home: Home, run: str) -> None:
    for folder in (home.run_key(run), home.release_key(run)):
        keys = [info.key for info in home.store.list(folder)]
        in_parallel(home.store, home.store.delete, keys)


def check_unchanged(package: ModelPackage) -> None:
    """Whatever is read of a package before this is what was digested.

    Raises:
        ModelError: It changed since.
    """
    if not package.is_as_digested():
        hint = "run again; in Python, open the pipeline again"
        raise ModelError(f"{package.root}: changed while it was planned with", hint=hint)
