"""Whether an object has certain bytes: what decides if a write of unknown outcome was ours."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from embedmill.errors import PreconditionFailed, StoreUnavailable
from embedmill.store.base import Body, Downloads, LocalPaths, Store
from embedmill.store.hashing import file_sha256
from embedmill.store.local import translated
from embedmill.store.scratch import scratch_folder

if TYPE_CHECKING:
    from pathlib import Path


def etag_if_same(store: Store, key: str, body: Body) -> str | None:
    """The object's ETag if its bytes are the body's, else None. Reads them only where the sizes agree.

    Bytes of a file are compared by SHA-256.

    Raises:
        ObjectMissing: There is no object.
        StoreUnavailable: It was replaced while it was compared, so that the ETag may be another's.
    """
    seen = store.head(key)
    if seen.size_bytes != _size_bytes(body) or not _same(store, key, body):
        return None
    _check_unchanged(store, key, seen.etag)
    return seen.etag


def same_objects(store: Store, one: str, other: str) -> bool:
    """Whether two objects have the same bytes.

    Raises:
        ObjectMissing: One of them is not there.
        StoreUnavailable: One was replaced meanwhile.
    """
    first, second = store.head(one), store.head(other)
    if first.size_bytes != second.size_bytes:
        return False
    same = object_sha256(store, one) == object_sha256(store, other)
    for info in (first, second):
        _check_unchanged(store, info.key, info.etag)
    return same


def object_sha256(store: Store, key: str) -> str:
    """SHA-256 of an object's bytes, in hex. A large one is not read into memory, if the store can help it.

    Raises:
        ObjectMissing: There is no object.
        StoreUnavailable: It was replaced meanwhile.
    """
    if isinstance(store, LocalPaths):
        return _file_sha256(store.path(key), key)
    if isinstance(store, Downloads):
        return _downloaded_sha256(store, key)
    return hashlib.sha256(store.get(key)).hexdigest()


def _same(store: Store, key: str, body: Body) -> bool:
    if isinstance(body, bytes):
        return store.get(key) == body
    with translated(str(body), writing=True):
        ours = file_sha256(body)
    return object_sha256(store, key) == ours


def _file_sha256(file: Path, key: str) -> str:
    with translated(key):
        return file_sha256(file)


def _downloaded_sha256(store: Downloads, key: str) -> str:
    with scratch_folder() as folder:
        file = folder / "object"
        try:
            store.download(key, file)
        except PreconditionFailed as error:
            raise StoreUnavailable(error.message) from error
        return file_sha256(file)


def _size_bytes(body: Body) -> int:
    if isinstance(body, bytes):
        return len(body)
    with translated(str(body), writing=True):
        return body.stat().st_size


def _check_unchanged(store: Store, key: str, etag: str) -> None:
    if store.head(key).etag != etag:
        raise StoreUnavailable(f"{key}: was replaced while it was read")
