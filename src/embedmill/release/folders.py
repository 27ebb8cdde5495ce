"""Local folders of releases and candidates: the store's own, or made in the cache of links to its contents.

What two releases share, such as carried segments and the model, is fetched once. Every file is checked when
it comes into the cache, so that a folder made here is not hashed again: it gets its stamp at once.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from embedmill.errors import LogGap, ObjectMissing, ReleaseMissing
from embedmill.release.integrity import content_files, note_verified, read_manifest
from embedmill.release.layout import CONTENT, MANIFEST, Home
from embedmill.release.log import read_history
from embedmill.spec.document import sha256
from embedmill.store import LocalPaths, cache_folder, join_key
from embedmill.store.local import translated
from embedmill.store.pruning import SPARED_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedmill.spec.documents import Content


def release_folder(home: Home, release: str, *, anew: bool = False) -> Path:
    """A local folder with all of a published release.

    `anew` is for a folder of the cache that was found damaged: all of it is compared with the store.

    Raises:
        ReleaseMissing: There is none.
        ReleaseCorrupt: The store has other bytes than were published; names the file.
    """
    key = home.release_key(release)
    if isinstance(home.store, LocalPaths):
        return Path(home.store.url) / key
    target = _cached(home, "releases", release)
    if anew:
        shutil.rmtree(target, ignore_errors=True)
    if not target.is_dir():
        with _made(target) as partial:
            try:
                (partial / MANIFEST).write_bytes(home.store.get(join_key(key, MANIFEST)))
            except ObjectMissing:
                raise ReleaseMissing(f"{home.url}: no published release {release!r}") from None
            manifest = read_manifest(partial)
            home.place(manifest.files, key, partial, home.verified if anew else home.fetched)
        note_verified(target, manifest)
        _forget(home)
    return _asked_for(target)


def candidate_folder(home: Home, content: Content) -> Path:
    """A local folder with a candidate's files.

    Raises:
        ReleaseCorrupt: The store has other bytes than were written; names the file.
    """
    key = home.release_key(content.release)
    if isinstance(home.store, LocalPaths):
        return Path(home.store.url) / key
    target = _cached(home, "candidates", content.release)
    if not target.is_dir():
        with _made(target) as partial:
            home.place(content_files(content), key, partial, home.fetched)
            (partial / CONTENT).write_bytes(home.store.get(join_key(key, CONTENT)))
    return _asked_for(target)


def _asked_for(folder: Path) -> Path:
    """The folder, dated today: who asks for it is going to open its files."""
    with contextlib.suppress(OSError):
        os.utime(folder)
    return folder


def _forget(home: Home) -> None:
    """Remove the cache's folders of retired releases and of candidates that nobody asked for within a day.

    Else their links would keep files in the cache for ever. Who works for longer on a retired release keeps
    the files that it has opened, as of a local store. What a log that lacks entries retired, nobody knows.
    """
    try:
        retired, before = read_history(home, patient=False).retired, time.time() - SPARED_S
    except LogGap:
        return
    releases = _cached(home, "releases", "any").parent.glob("*")
    candidates = _cached(home, "candidates", "any").parent.glob("*")
    for folder in (*(each for each in releases if each.name in retired), *candidates):
        with contextlib.suppress(OSError):
            if folder.stat().st_mtime < before:
                shutil.rmtree(folder, ignore_errors=True)


def _cached(home: Home, kind: str, release: str) -> Path:
    return cache_folder() / kind / sha256(home.url.encode())[:16] / release


@contextlib.contextmanager
def _made(target: Path) -> Iterator[Path]:
    """A folder that becomes `target` at the end, unless another process was faster."""
    partial = target.with_name(f"{target.name}.{uuid.uuid4().hex}.part")
    with translated(str(target), writing=True):
        partial.mkdir(parents=True)
        try:
            yield partial
            partial.rename(target)
        except OSError:
            if not target.is_dir():
                raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
