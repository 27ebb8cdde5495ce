"""From a URL to a store, and from a store's object to a local file."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from pathlib import Path
from urllib.parse import unquote, urlsplit

from embedmill.errors import ObjectExists, SpecError, StoreError
from embedmill.store.base import Copies, LocalPaths, Store, checked_key
from embedmill.store.local import LocalStore, translated
from embedmill.store.memory import MemoryStore

_MEMORY: dict[str, MemoryStore] = {}


def open_store(url: str, *, relative_to: Path | None = None) -> Store:
    """Open `./folder`, `/folder`, `file:///folder` or `memory://name`.

    Raises:
        SpecError: The URL has another scheme, or `file://` and no absolute path.
    """
    parts = urlsplit(url)
    if parts.scheme == "memory":
        return _MEMORY.setdefault(parts.netloc, MemoryStore(parts.netloc))
    if parts.scheme == "file":
        path = unquote(url.split("://", 1)[-1])
        if not path.startswith("/"):
            raise SpecError(f"store {url!r}: not an absolute path", hint="write file:///folder, or ./folder")
        return LocalStore(path)
    if not parts.scheme:
        return LocalStore((relative_to or Path()) / url)
    raise SpecError(
        f"store {url!r}: the scheme {parts.scheme!r} is not known",
        hint="allowed: a folder, file:// or memory://",
    )


def cache_folder() -> Path:
    """Where downloads and stamps are kept: $EMBEDMILL_CACHE, or `embedmill` in the user's cache."""
    named = os.environ.get("EMBEDMILL_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "embedmill"


def fetch(store: Store, key: str) -> Path:
    """A local, read-only file with the object's bytes: the object itself, or a cached download.

    Raises:
        ObjectMissing: There is no such object.
        StoreError: It was replaced meanwhile.
        StoreFull: The cache has no space left.
    """
    if isinstance(store, LocalPaths):
        return store.path(key)
    info = store.head(key)
    place = hashlib.sha256(f"{store.url}\0{checked_key(key)}\0{info.etag}".encode()).hexdigest()
    target = cache_folder() / "objects" / place[:2] / f"{place}-{key.rsplit('/', 1)[-1][-80:]}"
    if not target.exists():
        content = store.get(key)
        if store.head(key).etag != info.etag:
            raise StoreError(f"{key}: changed while it was fetched", hint="run again")
        with translated(str(target), writing=True):
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f"{place}.{uuid.uuid4().hex}.part")
            partial.write_bytes(content)
            partial.chmod(0o444)
            partial.rename(target)
    return target


def copy(store: Store, source: str, target: str) -> None:
    """Copy an object within the store; one that is there already is left alone."""
    try:
        if isinstance(store, Copies):
            store.copy_if_absent(source, target)
        else:
            store.put_if_absent(target, store.get(source))
    except ObjectExists:
        return


def download(store: Store, prefix: str, target: Path) -> None:
    """Copy all objects below `prefix` into a local folder."""
    for info in store.list(prefix):
        place = target / info.key.removeprefix(prefix).lstrip("/")
        with translated(str(place), writing=True):
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(fetch(store, info.key), place)
