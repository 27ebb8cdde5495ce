"""Where everything lies in a pipeline's folder of the store, and how its documents are read and written."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from embedmill.errors import ObjectExists, ObjectMissing, ReleaseCorrupt
from embedmill.spec.document import Document, written
from embedmill.spec.documents import FileEntry
from embedmill.store import Adopts, LocalPaths, Store, join_key, open_store
from embedmill.store.cache import fetch_checked, fetch_content, in_parallel, link_or_copy
from embedmill.store.hashing import file_sha256
from embedmill.world import WORLD, World

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DocumentT = TypeVar("DocumentT", bound=Document)

PLAN, TERMINAL, CONTENT, GATES, MANIFEST, REPORT = (
    "plan.json",
    "terminal.json",
    "CONTENT.json",
    "gates.json",
    "MANIFEST.json",
    "report.html",
)

SECONDS = "%Y%m%dT%H%M%S"
"""How the names of runs begin, for `strftime`."""
WHOLE_SECONDS = len("20260131T235959")
"""Characters of that; milliseconds come after them."""


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
        """A name that sorts by time, to the millisecond, such as `20260131T235959123-3f9c`.

        Names of whole seconds, which older versions gave, sort before those of the same second.
        """
        now = self.world.now()
        return f"{now:{SECONDS}}{now.microsecond // 1000:03d}-{self.world.token(2)}"

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

    def check_fit(self) -> None:
        """Refuse a remote store that is not fit; to be called before anything is written.

        Costs requests once for a machine and a store. Workers that a planner starts find its note, and ask
        nothing; local stores are never asked.

        Raises:
            StoreUnfit: The store does not do what releases rest on.
        """
        if self.store.remote:
            from embedmill.store.probe import require_fit

            require_fit(self.store)

    def keep(
        self, key: str, file: Path, *, relative_to: str, rows: int | None = None, digest: str | None = None
    ) -> FileEntry:
        """Store a file under a new key; the entry's path is relative to the key `relative_to`.

        Its digest, SHA-256 in hex, may be known; who knows it knows that the file did not change since.
        """
        digest, size = digest or file_sha256(file), file.stat().st_size
        self.store.put_if_absent(key, file)
        return FileEntry(path=relative(key, relative_to), size_bytes=size, sha256=digest, rows=rows)

    def adopt(
        self, key: str, file: Path, *, relative_to: str, rows: int | None = None, digest: str | None = None
    ) -> FileEntry:
        """Store a file that nobody will write to any more: without a copy, where the store can do that.

        Its digest may be known, as that of `keep`.
        """
        if not isinstance(self.store, Adopts):
            return self.keep(key, file, relative_to=relative_to, rows=rows, digest=digest)
        digest, size = digest or file_sha256(file), file.stat().st_size
        self.store.adopt_if_absent(key, file)
        return FileEntry(path=relative(key, relative_to), size_bytes=size, sha256=digest, rows=rows)

    def verified(self, key: str, entry: FileEntry) -> Path:
        """A local file of the object, its bytes in the store now checked against the entry.

        Raises:
            ReleaseCorrupt: It is missing, or its bytes are others.
        """
        return self._found(key, entry, fetch_checked)

    def fetched(self, key: str, entry: FileEntry) -> Path:
        """A local file with the entry's content: the store's own, or from the cache if that ever checked it.

        Says nothing of the object in the store; `verified` does.

        Raises:
            ReleaseCorrupt: It is in neither, or the object's bytes are others.
        """
        return self._found(key, entry, fetch_content)

    def _found(self, key: str, entry: FileEntry, how: Callable[..., Path | None]) -> Path:
        try:
            file = how(self.store, key, sha256=entry.sha256, size_bytes=entry.size_bytes)
        except ObjectMissing:
            raise ReleaseCorrupt(f"{key}: is missing") from None
        if file is None:
            raise ReleaseCorrupt(f"{key}: its bytes are not those that were written")
        return file

    def materialize(self, files: Sequence[FileEntry], prefix: str, target: Path) -> Path:
        """A local folder with these checked files: the store's own where it is local, else `target`.

        `prefix` is the key below which the entries' paths lie.
        """
        if isinstance(self.store, LocalPaths):
            for entry in files:
                place = self.verified(join_key(prefix, entry.path), entry)
            return place.parents[len(Path(entry.path).parts) - 1]
        self.place(files, prefix, target, self.fetched)
        return target

    def place(
        self, files: Sequence[FileEntry], prefix: str, target: Path, how: Callable[[str, FileEntry], Path]
    ) -> None:
        """Put what `fetched` or `verified` gives into a local folder: links, where that is possible."""

        def one(entry: FileEntry) -> None:
            link_or_copy(how(join_key(prefix, entry.path), entry), target / entry.path)

        in_parallel(self.store, one, files)


def named_at(run: str) -> datetime | None:
    """When the run of this name began, in UTC, as its planner's clock had it; None if no run is named so."""
    stamp = run.split("-", 1)[0]
    try:
        return datetime.strptime(stamp, SECONDS + "%f" * (len(stamp) > WHOLE_SECONDS)).replace(tzinfo=UTC)
    except ValueError:
        return None


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
