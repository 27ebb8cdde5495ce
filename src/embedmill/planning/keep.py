"""What a plan leaves in the store: frozen shards, planned items, goldens, the model."""

from __future__ import annotations

from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import TYPE_CHECKING

from embedmill.errors import ModelError, StoreError
from embedmill.spec.documents import ShardPlan
from embedmill.store.cache import copy_all, in_parallel

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from threading import Event

    from embedmill.model.package import ModelPackage
    from embedmill.planning.freeze import FrozenShard
    from embedmill.release.layout import Home
    from embedmill.release.reader import Release
    from embedmill.spec.documents import FileEntry


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
        """Files of planned items, each with its rows."""
        return tuple(in_parallel(self.home.store, lambda part: self.file("items", *part), parts))

    def shards(self, shards: Sequence[FrozenShard], given_up: Event) -> tuple[ShardPlan, ...]:
        """Frozen shards, which the store may adopt.

        Raises:
            CancelledError: Nobody waits for them any more.
        """

        def keep(shard: FrozenShard) -> ShardPlan:
            if given_up.is_set():
                raise CancelledError
            return self._shard(shard)

        return tuple(in_parallel(self.home.store, keep, shards))

    def _shard(self, shard: FrozenShard) -> ShardPlan:
        key = self.home.run_key(self.run, "frozen", shard.file.name)
        entry = self.home.adopt(key, shard.file, relative_to=self.home.pipeline, rows=shard.rows)
        return ShardPlan(name=shard.name, rows=shard.rows, cost=shard.cost, file=entry)

    def shards_and_model(
        self, shards: Sequence[FrozenShard], package: ModelPackage, base: Release | None, given_up: Event
    ) -> tuple[tuple[ShardPlan, ...], tuple[FileEntry, ...]]:
        """Both, one after the other.

        Raises:
            CancelledError: Nobody waits for them any more.
            ModelError: The package changed since it was digested.
        """
        frozen = self.shards(shards, given_up)
        if given_up.is_set():
            raise CancelledError
        return frozen, self.model(package, base)

    def model(self, package: ModelPackage, base: Release | None) -> tuple[FileEntry, ...]:
        """The package, taken from the live release where it has the same.

        Raises:
            ModelError: The package changed since it was digested: it may not be what was planned with.
        """
        try:
            kept = self._model(package, base)
        except (OSError, StoreError):  # perhaps for the want of a file
            if package.is_as_digested():
                raise
        else:
            if package.is_as_digested():
                return kept
        hint = "run again; in Python, open the pipeline again"
        raise ModelError(f"{package.root}: changed while it was planned with", hint=hint)

    def _model(self, package: ModelPackage, base: Release | None) -> tuple[FileEntry, ...]:
        if base is not None and base.content.package_digest == package.package_digest():
            model = base.content.model
            source, target = self.home.release_key(base.name), self.home.release_key(self.run)
            copy_all(self.home.store, [(f"{source}/{each.path}", f"{target}/{each.path}") for each in model])
            return model
        prefix = self.home.release_key(self.run)
        return tuple(
            self.home.keep(f"{prefix}/model/{name}", package.root / name, relative_to=prefix, digest=digest)
            for name, digest in package.file_digests().items()
        )
