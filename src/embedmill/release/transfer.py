"""Copying a release to another store, verified: every object is hashed on its way, the manifest goes last.

The copy stands alone: it opens without a log. CONTENT.json goes first, so that a collector there does not
take the copy for what a planner left (a planner writes none before its plan). A copy that was interrupted is
finished by the next call. With `into_log` it is then published there, as the operator's own decision: the
entry follows the log that was judged, a hold stands against it, and a release that was published there
before is not published twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from embedmill.errors import (
    Held,
    ObjectExists,
    ObjectMissing,
    PublishError,
    PublishLost,
    ReleaseCorrupt,
    StoreError,
)
from embedmill.release.integrity import parse_manifest
from embedmill.release.layout import CONTENT, MANIFEST, PLAN, TERMINAL, Home
from embedmill.release.log import History, append, read_history, whole_history
from embedmill.spec.document import sha256
from embedmill.spec.documents import FileEntry, Manifest
from embedmill.spec.upkeep import CopyReport
from embedmill.store import LocalPaths
from embedmill.store.hashing import file_sha256
from embedmill.store.local import translated
from embedmill.types import Progress

if TYPE_CHECKING:
    from embedmill.store import Body


def copy_release(
    home: Home,
    name: str,
    target: Home,
    *,
    into_log: bool = False,
    note: str = "",
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> CopyReport:
    """Copy a published release to `<target>/releases/<name>/`, or finish doing so.

    Args:
        home: Where the release is.
        name: The release, by its name or number.
        target: The same pipeline's folder in another store.
        into_log: Publish it there too, so that it is live there.
        note: Why, for the log there.
        on_progress: Hears of bytes as they are done.

    Raises:
        ReleaseMissing: There is none, or it is retired.
        ReleaseCorrupt: An object is not what was published, here or there; names it.
        PublishError: Another release lies there under that name, or it may not be published there.
        PublishLost: The log there has moved on meanwhile: nothing was published.
        Held: A rollback there set a hold.
        LogGap: The log lacks an entry, here or there.
    """
    started = time.monotonic()
    history = read_history(home)
    found = history.find(name)
    data = published_manifest(home, history, found.release)
    manifest = parse_manifest(data, home.release_key(found.release, MANIFEST))
    there = whole_history(target) if into_log else read_history(target)
    _check_free(target, there, manifest, data)
    if into_log:
        _check_publishable(target, there, found.release)
    target.check_fit()
    copying = _Copying(home, target, manifest, on_progress)
    try:
        copying.all_files()
    except (ReleaseCorrupt, StoreError):
        read_history(home).find(found.release)  # what is gone because it was retired just now is not damaged
        raise
    _create_manifest(target, found.release, data)
    number = _publish(target, there, found.release, note or f"copied from {home.url}") if into_log else None
    return CopyReport(
        release=found.release,
        url=f"{target.url}/releases/{found.release}",
        number=number,
        files=len(manifest.files),
        copied=copying.copied,
        size_bytes=sum(entry.size_bytes for entry in manifest.files),
        copied_bytes=copying.copied_bytes,
        seconds=round(time.monotonic() - started, 3),
    )


@dataclass
class _Copying:
    """Counts what it copies; objects that are there already are hashed, never replaced."""

    home: Home
    target: Home
    manifest: Manifest
    on_progress: Callable[[Progress], None]
    copied: int = 0
    copied_bytes: int = 0

    def all_files(self) -> None:
        total = sum(entry.size_bytes for entry in self.manifest.files)
        done = 0
        for entry in sorted(self.manifest.files, key=lambda entry: (entry.path != CONTENT, entry.path)):
            self.on_progress(Progress("copy", done, total, "bytes"))
            self._one(entry)
            done += entry.size_bytes
        self.on_progress(Progress("copy", done, total, "bytes"))

    def _one(self, entry: FileEntry) -> None:
        target = self.target.release_key(self.manifest.release, entry.path)
        if self.target.exists(target):
            _verified(self.target, target, entry)
            return
        body = _verified(self.home, self.home.release_key(self.manifest.release, entry.path), entry)
        try:
            self.target.store.put_if_absent(target, body)
        except ObjectExists:  # another copy was faster
            _verified(self.target, target, entry)
            return
        self.copied, self.copied_bytes = self.copied + 1, self.copied_bytes + entry.size_bytes


def _verified(home: Home, key: str, entry: FileEntry) -> Body:
    """The object as a body, once its bytes are found to be those of the manifest."""
    try:
        with translated(key):
            body: Body = home.store.path(key) if isinstance(home.store, LocalPaths) else home.store.get(key)
            digest = sha256(body) if isinstance(body, bytes) else file_sha256(body)
    except ObjectMissing:
        raise ReleaseCorrupt(f"{home.store.url}/{key}: is missing") from None
    if digest != entry.sha256:
        raise ReleaseCorrupt(f"{home.store.url}/{key}: its bytes are not those that were published")
    return body


def published_manifest(home: Home, history: History, release: str) -> bytes:
    """The manifest's bytes, if it is the one that the log names.

    Raises:
        ReleaseCorrupt: It is not, or missing.
    """
    key, published = home.release_key(release, MANIFEST), history.publication_of(release)
    try:
        data = home.store.get(key)
    except ObjectMissing:
        raise ReleaseCorrupt(f"{home.store.url}/{key}: is missing") from None
    if published is None or parse_manifest(data, key).digest != published.manifest_digest:
        raise ReleaseCorrupt(f"{home.store.url}/{key}: is not the manifest that the log names")
    return data


def _check_free(target: Home, there: History, manifest: Manifest, data: bytes) -> None:
    """Nothing else may go by that name there.

    Raises:
        PublishError: Something does, or did.
    """
    hint, release = "copy to another store", manifest.release
    if release in there.retired:
        entry = there.retired[release]
        raise PublishError(
            f"{target.url}: release {release} was retired by log entry {entry.number}", hint=hint
        )
    published = there.publication_of(release)
    own = [target.run_key(release, name) for name in (TERMINAL, PLAN)]
    if published is None and any(target.exists(key) for key in own):
        raise PublishError(f"{target.url}: has a run {release} of its own that was not published", hint=hint)
    sealed = {entry.path: entry.sha256 for entry in manifest.files} | {MANIFEST: sha256(data)}
    for path in (CONTENT, MANIFEST):
        key = target.release_key(release, path)
        if target.exists(key) and sha256(target.store.get(key)) != sealed[path]:
            raise PublishError(f"{target.url}: another release lies there as {release}", hint=hint)


def _create_manifest(target: Home, release: str, data: bytes) -> None:
    key = target.release_key(release, MANIFEST)
    try:
        target.store.put_if_absent(key, data)
    except ObjectExists:
        if target.store.get(key) != data:
            raise PublishError(f"{target.url}: another release lies there as {release}") from None


def _check_publishable(target: Home, there: History, release: str) -> None:
    """Said before anything is copied.

    Raises:
        Held: A rollback set a hold there.
        PublishError: It was published there before, and another one is live.
    """
    if there.live is not None and there.live.release == release:
        return
    if there.publication_of(release) is not None:
        raise PublishError(
            f"{target.url}: release {release} was published there before",
            hint="`embedmill release rollback` makes it live again",
        )
    if there.hold is not None:
        raise Held(
            f"{target.url}: publishing is on hold since the rollback to {there.hold.release} "
            f"(log entry {there.hold.number})",
            hint="`embedmill release unhold` lifts it; then copy again",
        )


def _publish(target: Home, there: History, release: str, note: str) -> int:
    """The number of its entry, right after the history that was judged; or of the one that is there."""
    published = there.publication_of(release)
    if published is not None:
        return published.number
    try:
        return append(target, there, "publish", release, transaction=release, note=note).number
    except PublishLost as error:
        hint = "copied, but not published; look at the log there, then copy again"
        raise PublishLost(f"{target.url}: {error.message}", hint=hint) from None
