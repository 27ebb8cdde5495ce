"""A store in this process's memory: a real implementation, for tests and experiments."""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING

from embedmill.errors import ObjectExists, ObjectMissing, PreconditionFailed
from embedmill.store.base import Body, ObjectInfo, Store, checked_key, read_body

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class MemoryStore(Store):
    """Objects in a dictionary under one lock; stores of one name are the same store."""

    transfers = 1

    def __init__(self, name: str = "") -> None:
        """Make an empty store; `memory://name` finds named ones again through `open_store`."""
        self.url = f"memory://{name}"
        self._objects: dict[str, tuple[bytes, str]] = {}
        self._lock = threading.Lock()
        self._versions = itertools.count(1)

    def get(self, key: str) -> bytes:
        """Bytes of the object."""
        return self._entry(key)[0]

    def head(self, key: str) -> ObjectInfo:
        """Size and ETag (a version number) of the object."""
        data, etag = self._entry(key)
        return ObjectInfo(key, len(data), etag)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Objects below `prefix`, by key."""
        top = checked_key(prefix) + "/" if prefix else ""
        with self._lock:
            found = [
                ObjectInfo(k, len(d), e) for k, (d, e) in sorted(self._objects.items()) if k.startswith(top)
            ]
        yield from found

    def folders(self, prefix: str) -> Sequence[str]:
        """Names of the folders directly in `prefix`."""
        top = checked_key(prefix) + "/" if prefix else ""
        with self._lock:
            below = [key[len(top) :] for key in self._objects if key.startswith(top)]
        return sorted({key.split("/", 1)[0] for key in below if "/" in key})

    def put(self, key: str, body: Body, *, if_match: str | None = None) -> str:
        """Create or replace the object."""
        data = read_body(body)
        checked_key(key)
        with self._lock:
            if if_match is not None and self._objects.get(key, (b"", None))[1] != if_match:
                raise PreconditionFailed(f"{key}: changed since it was read")
            return self._store(key, data)

    def put_if_absent(self, key: str, body: Body) -> str:
        """Create the object under the lock."""
        data = read_body(body)
        with self._lock:
            if key in self._objects:
                raise ObjectExists(f"{key}: exists already")
            return self._store(key, data)

    def delete(self, key: str) -> None:
        """Remove the object."""
        with self._lock:
            self._objects.pop(checked_key(key), None)

    def copy_if_absent(self, source: str, target: str) -> None:
        """Share the bytes under another key."""
        self.put_if_absent(target, self.get(source))

    def _entry(self, key: str) -> tuple[bytes, str]:
        with self._lock:
            try:
                return self._objects[checked_key(key)]
            except KeyError:
                raise ObjectMissing(f"{key}: no such object in {self.url}") from None

    def _store(self, key: str, data: bytes) -> str:
        etag = f"v{next(self._versions)}"
        self._objects[checked_key(key)] = (data, etag)
        return etag
