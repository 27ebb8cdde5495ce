"""Where everything lies in a pipeline's folder of the store, and how its documents are read and written."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from embedmill.errors import ObjectExists, ObjectMissing, ReleaseCorrupt, ReleaseMissing
from embedmill.spec.documents import Document, FileEntry, sha256, written
from embedmill.store import LocalPaths, Store, cache_folder, download, fetch, join_key, open_store
from embedmill.store.hashing import file_sha256
from embedmill.world import WORLD, World

if TYPE_CHECKING:
    from collections.abc import Sequence

DocumentT = TypeVar("DocumentT", bound=Document)

PLAN, TERMINAL, CONTENT, GATES, MANIFEST, REPORT = (
    "plan.json",
    "terminal.json",
    "CONTENT.json",
    "gates.json",
    "MANIFEST.json",
    "report.html",
)


@dataclass(frozen=True)
class Home:
    """One pipeline's folder in a store."""

    store: Store
    pipeline: str
    world: World = WORLD

    @property
    def url(self) -> str:
        """The folder's URL."""
        return f"{self.store.url.rstrip('/')}/{self.pipeline}"

    def new_run(self) -> str:
        """A name that sorts by time and does not collide, such as `20260131T235959-3f9c`."""
        return f"{self.world.now():%Y%m%dT%H%M%S}-{self.world.token(2)}"

    def new_attempt(self) -> str:
        """A name that no other attempt has."""
        return self.world.token(6)

    def now(self) -> str:
        """The time, as documents write it."""
        return written(self.world.now())

    def run_key(self, run: str, *parts: str) -> str:
        """A key in a run's folder."""
        return join_key(self.pipeline, "runs", run, *parts)

    def release_key(self, release: str, *parts: str) -> str:
        """A key in a release's folder."""
        return join_key(self.pipeline, "releases", release, *parts)

    def log_key(self, number: int) -> str:
        """The key of a log entry."""
        return join_key(self.pipeline, "log", f"{number:08d}.json")

    def key(self, path: str) -> str:
        """The key of a path that a run's document names: those are relative to this folder."""
        return join_key(self.pipeline, path)

    def read(self, kind: type[DocumentT], key: str) -> DocumentT:
        """Read a document."""
        return kind.from_bytes(self.store.get(key), key)

    def exists(self, key: str) -> bool:
        """Whether there is an object under this key."""
        try:
            self.store.head(key)
        except ObjectMissing:
            return False
        return True

    def create(self, key: str, document: DocumentT) -> DocumentT:
        """Create a document, or read the one that was there first: either way, the one that counts."""
        try:
            self.store.put_if_absent(key, document.to_bytes())
        except ObjectExists:
            return self.read(type(document), key)
        return document

    def keep(self, key: str, file: Path, *, relative_to: str, rows: int | None = None) -> FileEntry:
        """Store a file under a new key; the entry's path is relative to the key `relative_to`."""
        digest, size = file_sha256(file), file.stat().st_size
        self.store.put_if_absent(key, file)
        return FileEntry(path=relative(key, relative_to), size_bytes=size, sha256=digest, rows=rows)

    def verified(self, key: str, entry: FileEntry) -> Path:
        """A local file of the object, its bytes checked against the entry.

        Raises:
            ReleaseCorrupt: It is missing, or its bytes are others.
        """
        try:
            file = fetch(self.store, key)
        except ObjectMissing:
            raise ReleaseCorrupt(f"{key}: is missing") from None
        if file.stat().st_size != entry.size_bytes or file_sha256(file) != entry.sha256:
            raise ReleaseCorrupt(f"{key}: its bytes are not those that were written")
        return file

    def materialize(self, files: Sequence[FileEntry], prefix: str, target: Path) -> Path:
        """A local folder with these verified files: the store's own where it is local, else `target`.

        `prefix` is the key below which the entries' paths lie.
        """
        places = {entry.path: self.verified(join_key(prefix, entry.path), entry) for entry in files}
        if isinstance(self.store, LocalPaths):
            path, place = next(iter(places.items()))
            return place.parents[len(Path(path).parts) - 1]
        for path, place in places.items():
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(place, target / path)
        return target

    def folder(self, release: str, *, cached_as: str) -> Path:
        """A local folder with all of a release: the store's own, or a download that is kept in the cache.

        Candidates and releases are cached apart, since a candidate has no manifest yet.

        Raises:
            ReleaseMissing: There is nothing in it.
        """
        key = self.release_key(release)
        if isinstance(self.store, LocalPaths):
            return Path(self.store.url) / key
        target = cache_folder() / cached_as / sha256(self.url.encode())[:16] / release
        if not target.is_dir():
            partial = target.with_name(f"{release}.{os.getpid()}.part")
            download(self.store, key, partial)
            if not partial.is_dir():
                raise ReleaseMissing(f"{self.url}/releases/{release}: no such release")
            try:
                partial.rename(target)
            except OSError:  # another process was faster
                if not target.is_dir():
                    raise
                shutil.rmtree(partial)
        return target


def relative(key: str, prefix: str) -> str:
    """The part of a key below a prefix."""
    return key.removeprefix(prefix).lstrip("/")


def split_url(url: str, folder: str) -> tuple[Home, str]:
    """Home and name of a URL such as `<store>/<pipeline>/releases/<name>` (folder `releases` or `runs`).

    Raises:
        ValueError: It has no such shape.
    """
    parts = url.rstrip("/").rsplit("/", 3)
    if len(parts) != 4 or parts[2] != folder:
        raise ValueError(f"{url}: expected <store>/<pipeline>/{folder}/<name>")
    return Home(open_store(parts[0] or "/"), parts[1]), parts[3]
