"""Fetching one release into a folder that then stands alone: what a server has before it starts.

    FOLDER/.fetch/MANIFEST.json          which release is being fetched
    FOLDER/.fetch/00007-<sha256>.part    a file on its way; beside it `.pieces`: which parts it has
    FOLDER/model/…, vectors/…, …         files whose bytes were checked, moved here when they were
    FOLDER/FETCHED.json                  where it is from, and its number
    FOLDER/MANIFEST.json                 last, by a rename: without it the folder is no release

Whoever is killed leaves all of that, and the next call goes on: with files that have the right bytes, and
with the pieces of others. Nothing is believed because it lies there: every file is hashed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from embedmill.errors import ObjectMissing, ReleaseCorrupt, SpecError, StoreError, StoreFull
from embedmill.release.integrity import FETCHED
from embedmill.release.layout import MANIFEST
from embedmill.release.pieces import Fetching, PartialFile
from embedmill.spec.document import now
from embedmill.spec.documents import Fetched
from embedmill.spec.reports import FetchReport
from embedmill.store.hashing import files_sha256
from embedmill.store.local import translated
from embedmill.types import Progress

if TYPE_CHECKING:
    from embedmill.release.source import Source
    from embedmill.spec.documents import FileEntry

WORK = ".fetch"
OURS = {WORK, "lost+found"}
"""What a folder that is to be filled may have in it: what we left, and what file systems put there."""
BLOCK_BYTES = 4096
GO_ON = "run it again when there is room: it goes on where it ended"


def fetch_release(
    source: Source, folder: Path, *, on_progress: Callable[[Progress], None] = lambda _: None
) -> FetchReport:
    """Copy a release into a folder, or finish doing so; the folder is a release when all of it is there.

    Raises:
        SpecError: The folder has something else in it.
        ReleaseIncompatible: The release is empty.
        ReleaseMissing: It was retired meanwhile.
        ReleaseCorrupt: The store has other bytes than were published; names the file.
        StoreFull: There is not room enough; said before anything is fetched, where that can be known.
        StoreError: Another process is fetching into this folder.
    """
    started = time.monotonic()
    source.check_not_empty()
    _check_usable(folder, source)
    work = folder / WORK
    try:
        with translated(str(folder), writing=True):
            work.mkdir(parents=True, exist_ok=True)
            with _locked(work):
                fetching = _fetch_into(folder, source, on_progress)
            shutil.rmtree(work, ignore_errors=True)
    except StoreFull as error:
        raise StoreFull(error.message, hint=error.hint if error.hint.endswith(GO_ON) else GO_ON) from error
    except (ReleaseCorrupt, ObjectMissing):
        source.check_not_retired()
        raise
    return FetchReport(
        release=source.release,
        number=source.number,
        url=source.url,
        folder=str(folder),
        manifest_digest=source.manifest.digest,
        files=len(source.manifest.files),
        fetched=fetching.whole_files,
        size_bytes=source.size_bytes,
        fetched_bytes=fetching.came_bytes,
        seconds=round(time.monotonic() - started, 3),
    )


def _check_usable(folder: Path, source: Source) -> None:
    """Only this release, whole or in part, or nothing may be in the folder.

    Raises:
        SpecError: It is a file, or has something else in it.
    """
    hint = "choose an empty folder"
    if folder.exists() and not folder.is_dir():
        raise SpecError(f"{folder}: is not a folder", hint=hint)
    for marker in (folder / MANIFEST, folder / WORK / MANIFEST):
        if marker.is_file():
            if marker.read_bytes() != source.manifest_bytes:
                raise SpecError(f"{folder}: has another release in it than {source.release}", hint=hint)
            return
    found = sorted(each.name for each in folder.iterdir() if each.name not in OURS) if folder.is_dir() else []
    if found:
        raise SpecError(f"{folder}: is not empty: has {found[0]!r}", hint=hint)


@contextlib.contextmanager
def _locked(work: Path) -> Iterator[None]:
    handle = os.open(work, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(
                f"{work.parent}: another process is fetching into it", hint="wait for it, or end it"
            ) from None
        yield
    finally:
        os.close(handle)


def _fetch_into(folder: Path, source: Source, on_progress: Callable[[Progress], None]) -> Fetching:
    work = folder / WORK
    entries = source.manifest.files
    there = _right_files(folder, entries)
    if len(there) < len(entries):
        _withdraw(folder, source)
    files = [
        PartialFile(entry, work / f"{number:05d}-{entry.sha256[:16]}", folder / entry.path)
        for number, entry in enumerate(entries)
        if entry.path not in there
    ]
    _check_room(folder, source, files)
    fetching = Fetching(source.store, source.prefix, files, source.size_bytes, on_progress)
    fetching.all()
    if not (folder / MANIFEST).is_file():
        _show(folder, source)
    return fetching


def _right_files(folder: Path, entries: tuple[FileEntry, ...]) -> set[str]:
    """Paths of the files that are there with the right bytes."""
    sized = [
        entry
        for entry in entries
        if (folder / entry.path).is_file() and (folder / entry.path).stat().st_size == entry.size_bytes
    ]
    digests = files_sha256([folder / entry.path for entry in sized])
    return {entry.path for entry, digest in zip(sized, digests, strict=True) if digest == entry.sha256}


def _withdraw(folder: Path, source: Source) -> None:
    """The folder is no release until it is whole; what is on its way is named."""
    (folder / MANIFEST).unlink(missing_ok=True)
    _write(folder / WORK / MANIFEST, source.manifest_bytes)


def _check_room(folder: Path, source: Source, files: list[PartialFile]) -> None:
    """Before anything is fetched.

    Raises:
        StoreFull: What is lacking has more bytes than the file system has free.
    """
    needed = sum(file.lacking_bytes + BLOCK_BYTES for file in files)
    room = os.statvfs(folder)
    free = room.f_bavail * room.f_frsize
    if needed > free:
        raise StoreFull(
            f"{folder}: release {source.release} needs {needed:,} bytes more, and {free:,} are free",
            hint=f"the whole release has {source.size_bytes:,} bytes; {GO_ON}",
        )


def _show(folder: Path, source: Source) -> None:
    """Make the folder a release: all is on the disk before the manifest gets its name."""
    fetched = Fetched(
        release=source.release,
        number=source.number,
        url=source.url,
        manifest_digest=source.manifest.digest,
        created=now(),
    )
    _write(folder / WORK / FETCHED, fetched.to_bytes())
    (folder / WORK / FETCHED).rename(folder / FETCHED)
    _write(folder / WORK / MANIFEST, source.manifest_bytes)
    (folder / WORK / MANIFEST).rename(folder / MANIFEST)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write(file: Path, data: bytes) -> None:
    """Whole or not at all, and on the disk."""
    partial = file.with_suffix(".tmp")
    with partial.open("wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    partial.rename(file)
