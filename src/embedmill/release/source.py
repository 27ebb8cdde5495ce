"""`Source`: one published release wherever it lies, with the manifest that says what its bytes must be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from embedmill.errors import (
    LogGap,
    ObjectMissing,
    ReleaseCorrupt,
    ReleaseIncompatible,
    SpecError,
    StoreError,
)
from embedmill.release.integrity import WHAT_NEXT, check_named, no_manifest, parse_manifest, read_fetched
from embedmill.release.layout import CONTENT, MANIFEST, Home, split_url
from embedmill.release.log import History, nothing_published, read_history
from embedmill.release.transfer import published_manifest
from embedmill.spec.document import sha256
from embedmill.spec.documents import Content
from embedmill.store import join_key, open_store
from embedmill.store.local import LocalStore

if TYPE_CHECKING:
    from embedmill.spec.documents import Manifest
    from embedmill.store import Store

LIVE = "live"


@dataclass(frozen=True)
class Source:
    """A release's files: the key of each is `prefix` and its path. `manifest_bytes` are the manifest's own.

    `home` is the pipeline's folder, if its log has the release; then `number` is the release's.
    """

    store: Store
    prefix: str
    manifest: Manifest
    manifest_bytes: bytes
    content: Content
    number: int | None = None
    home: Home | None = None

    @property
    def release(self) -> str:
        """The release's name."""
        return self.manifest.release

    @property
    def url(self) -> str:
        """Where it lies."""
        return f"{self.store.url.rstrip('/')}/{self.prefix}"

    @property
    def size_bytes(self) -> int:
        """Bytes of all files, without the manifest."""
        return sum(entry.size_bytes for entry in self.manifest.files)

    def check_not_empty(self) -> None:
        """A release that has no vectors is no release to serve.

        Raises:
            ReleaseIncompatible: No item has a vector.
        """
        if self.content.embedded + self.content.reused == 0:
            raise ReleaseIncompatible(
                f"{self.url}: is empty: none of its items has a vector, so no search would find anything",
                hint="look at its quarantine: `embedmill release show`",
            )

    def check_manifest(self, digest: str) -> None:
        """Whoever pinned a release by its manifest gets that one, whatever became of the store.

        Raises:
            ReleaseCorrupt: The manifest is another one.
        """
        if self.manifest.digest != digest:
            raise ReleaseCorrupt(
                f"{self.url}: its manifest has the digest {self.manifest.digest}, and {digest} is asked for",
                hint="the release was exchanged, or this is another store than was meant",
            )

    def check_not_retired(self) -> None:
        """What is gone because it was retired just now is not damaged.

        Raises:
            ReleaseMissing: It was retired.
        """
        if self.home is not None:
            read_history(self.home).find(self.release)


def source_in(home: Home, name: str = LIVE) -> Source:
    """A release of a pipeline: by its name or number, or the one that is live.

    Raises:
        ReleaseMissing: There is none, or it is retired.
        ReleaseCorrupt: The manifest is not the one that was published.
    """
    history = read_history(home)
    if name != LIVE:
        return _published(home, history, history.find(name).release)
    if history.live is None:
        raise nothing_published(home)
    return _published(home, history, history.live.release)


def source_at(url: str, name: str | None = None) -> Source:
    """A release by its URL or folder; or of the pipeline at `<store>/<pipeline>`, by default the live one.

    Raises:
        SpecError: `name` is given, and the URL names one release already.
        ReleaseMissing: There is none, or it is retired.
        ReleaseCorrupt: Its manifest is not the one that was published.
    """
    folder = Path(url)
    is_folder = (folder / MANIFEST).is_file()
    try:
        home, release = split_url(str(folder.absolute()) if is_folder else url, "releases")
    except ValueError:
        if not is_folder:
            return source_in(_pipeline_at(url), name or LIVE)
        _refuse_name(url, name)
        return _of_folder(folder)
    _refuse_name(url, name)
    history = _history_of(home)
    if history.publication_of(release) is not None:
        return _published(home, history, history.find(release).release)
    return _of_folder(folder) if is_folder else _read(home.store, home.release_key(release), None)


def _history_of(home: Home) -> History:
    """Empty where entries were lost: a release that is named by its folder stands alone, without a number."""
    try:
        return read_history(home, patient=False)
    except LogGap:
        return History(())


def _pipeline_at(url: str) -> Home:
    store, _, pipeline = url.rstrip("/").rpartition("/")
    if not pipeline:
        raise SpecError(
            f"{url!r}: names no release", hint="give a release's URL, a pipeline.yaml, or <store>/<pipeline>"
        )
    return Home(open_store(store or ("/" if url.startswith("/") else ".")), pipeline)


def _refuse_name(url: str, name: str | None) -> None:
    if name is not None:
        raise SpecError(f"{url}: is one release: --release {name} has no meaning there", hint="leave it out")


def _published(home: Home, history: History, release: str) -> Source:
    published_manifest(home, history, release)
    number = history.number_of(release)
    return _read(home.store, home.release_key(release), number, home)


def _of_folder(folder: Path) -> Source:
    """A copy that stands alone; one that was fetched knows its number."""
    whole = folder.absolute()
    found = _read(LocalStore(whole.parent), whole.name, None)
    fetched = read_fetched(whole, found.manifest)
    number = None if fetched is None else fetched.number
    return Source(
        found.store, found.prefix, found.manifest, found.manifest_bytes, found.content, number=number
    )


def _read(store: Store, prefix: str, number: int | None, home: Home | None = None) -> Source:
    key, where = join_key(prefix, MANIFEST), join_key(prefix, CONTENT)
    try:
        data = store.get(key)
    except ObjectMissing:
        raise no_manifest(f"{store.url}/{prefix}") from None
    manifest = parse_manifest(data, key)
    named = {entry.path: entry.sha256 for entry in manifest.files}
    try:
        body = store.get(where)
        content = Content.from_bytes(body, where)
    except ObjectMissing:
        raise ReleaseCorrupt(f"{store.url}/{where}: is missing", hint=WHAT_NEXT) from None
    except StoreError as error:
        raise ReleaseCorrupt(error.message, hint=WHAT_NEXT) from None
    if named.get(CONTENT) != sha256(body):
        raise ReleaseCorrupt(
            f"{store.url}/{where}: its bytes are not those that were published", hint=WHAT_NEXT
        )
    check_named(Path(prefix), content, manifest)
    return Source(store, prefix, manifest, data, content, number, home)
