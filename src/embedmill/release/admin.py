"""What an operator does with published releases: roll back to one, lift the hold, pin, verify."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from embedmill.errors import ObjectMissing, PublishError, PublishLost, ReleaseCorrupt, ReleaseMissing
from embedmill.release.integrity import read_manifest, verify_files
from embedmill.release.layout import MANIFEST, Home
from embedmill.release.log import append, read_history
from embedmill.spec.upkeep import PinReport
from embedmill.store import LocalPaths, download
from embedmill.store.scratch import scratch_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedmill.release.log import History
    from embedmill.spec.documents import LogEntry, Manifest, ReleaseName

LOST_MOST = 20
"""So often others may take the log number before a pin gives way."""


def rollback(home: Home, name: str, *, note: str = "") -> LogEntry:
    """Make an earlier release live again, once every byte of it is checked; sets a hold on publishing.

    Args:
        home: The pipeline.
        name: The release, by its name or number.
        note: Why, for the log.

    Raises:
        ReleaseMissing: There is none, or it is retired.
        ReleaseCorrupt: It is damaged; nothing changes.
        PublishError: It is live already.
        PublishLost: Another writer was faster.
    """
    history = read_history(home)
    found = history.find(name)
    if found == history.live:
        raise PublishError(
            f"release {found.release} (number {found.number}) is live already",
            hint="`embedmill release ls` shows those before it",
        )
    verify(home, found.release)
    return append(home, history, "rollback", found.release, note=note)


def unhold(home: Home, *, note: str = "") -> LogEntry | None:
    """Let runs publish again; None if they could anyway."""
    history = read_history(home)
    if history.hold is None:
        return None
    return append(home, history, "unhold", history.hold.release, note=note)


def pin(home: Home, name: str, *, note: str = "") -> PinReport:
    """Keep a release for ever: it is never retired. One that is pinned already stays as it is.

    Args:
        home: The pipeline.
        name: The release, by its name or number.
        note: Why, for the log.

    Raises:
        ReleaseMissing: There is none, or it is retired.
        PublishLost: Others kept taking the log's next number.
    """
    return _mark(home, name, "pin", note)


def unpin(home: Home, name: str, *, note: str = "") -> PinReport:
    """Let a release be retired when its time comes; arguments and errors as of `pin`."""
    return _mark(home, name, "unpin", note)


def _mark(home: Home, name: str, kind: Literal["pin", "unpin"], note: str) -> PinReport:
    """Append the entry unless the log says so already; judged anew where another writer was faster."""
    lost = 0
    while True:
        history = read_history(home)
        found, pinned = history.find(name), kind == "pin"
        if (found.release in history.pinned) == pinned:
            return PinReport(release=found.release, pinned=pinned, number=None)
        try:
            entry = append(home, history, kind, found.release, note=note)
        except PublishLost:
            lost += 1
            if lost == LOST_MOST:
                raise
        else:
            return PinReport(release=found.release, pinned=pinned, number=entry.number)


def verify(home: Home, name: str) -> Manifest:
    """Hash every byte of a published release again, and compare with its manifest and with the log.

    Args:
        home: The pipeline.
        name: The release, by its name or number.

    Raises:
        ReleaseMissing: There is none, or it was retired, perhaps meanwhile.
        ReleaseCorrupt: A file is not what was published; names it.
    """
    history = read_history(home)
    found = history.find(name)
    try:
        return _verified(home, history, found)
    except (ReleaseCorrupt, ReleaseMissing, ObjectMissing):
        read_history(home).find(name)  # what is gone because it was retired just now is not damaged
        raise


def _verified(home: Home, history: History, found: ReleaseName) -> Manifest:
    with _local_folder(home, found.release) as folder:
        manifest = read_manifest(folder)
        published = history.entries[found.number - 1].manifest_digest
        if manifest.digest != published:
            raise ReleaseCorrupt(
                f"{folder / MANIFEST}: is not the manifest that log entry {found.number} names"
            )
        verify_files(folder, manifest, thorough=True)
    return manifest


@contextlib.contextmanager
def _local_folder(home: Home, release: str) -> Iterator[Path]:
    """The release's folder; that of a remote store is downloaded, whatever the cache has."""
    if isinstance(home.store, LocalPaths):
        yield Path(home.store.url) / home.release_key(release)
        return
    with scratch_folder() as folder:
        download(home.store, home.release_key(release), folder)
        yield folder
