"""A folder as a store.

Create-if-absent is `link(2)`: temporary file, fsync, hard link, fsync of the folder. Linking is atomic and
refuses an existing name, which renaming does not. Objects get mode 0444; a copy is a hard link. Replacing
holds a lock file, because POSIX has no compare-and-swap of files.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from embedmill.errors import (
    ObjectExists,
    ObjectMissing,
    PreconditionFailed,
    StoreDenied,
    StoreError,
    StoreFull,
)
from embedmill.store.base import Body, ObjectInfo, Store, checked_key

if TYPE_CHECKING:
    from collections.abc import Iterator

TEMPORARY = ".tmp"
OBJECT_MODE = 0o444


class LocalStore(Store):
    """Objects are the files below `root`; `root/.tmp` has unfinished ones."""

    def __init__(self, root: str | Path) -> None:
        """Open the folder; it is made by the first write."""
        self.root = Path(root).absolute()
        self.url = str(self.root)
        self._temporary = self.root / TEMPORARY

    def __repr__(self) -> str:
        return f"LocalStore({self.url!r})"

    def get(self, key: str) -> bytes:
        """Bytes of the object."""
        with _translated(key):
            return self.path(key).read_bytes()

    def head(self, key: str) -> ObjectInfo:
        """Size and ETag (inode and change times) of the object."""
        with _translated(key):
            return ObjectInfo(key, *_identity(self.path(key).stat()))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Objects below `prefix`, by key."""
        top = self.root / checked_key(prefix) if prefix else self.root
        with _translated(prefix):
            found = sorted(p.relative_to(self.root).as_posix() for p in top.rglob("*") if p.is_file())
        for key in found:
            if not key.startswith(TEMPORARY + "/"):
                with contextlib.suppress(ObjectMissing):  # deleted since
                    yield self.head(key)

    def put(self, key: str, body: Body, *, if_match: str | None = None) -> str:
        """Create or replace the object."""
        target = self._target(key)
        with _translated(key), self._staged(body) as staged, self._locked():
            if if_match is not None and self._etag(target) != if_match:
                raise PreconditionFailed(f"{key}: changed since it was read")
            target.parent.mkdir(parents=True, exist_ok=True)
            staged.rename(target)
            _sync_folder(target.parent)
            return self.head(key).etag

    def put_if_absent(self, key: str, body: Body) -> str:
        """Create the object by a hard link from a synced temporary file."""
        target = self._target(key)
        with _translated(key), self._staged(body) as staged:
            self._link(staged, target)
            return self.head(key).etag

    def delete(self, key: str) -> None:
        """Remove the file, and the folders that this leaves empty."""
        target = self._target(key)
        with _translated(key):
            target.unlink(missing_ok=True)
        for folder in target.relative_to(self.root).parents[:-1]:
            try:
                (self.root / folder).rmdir()
            except OSError:  # not empty, or someone was faster
                return

    def path(self, key: str) -> Path:
        """The object's file."""
        target = self._target(key)
        if not target.is_file():
            raise ObjectMissing(f"{key}: no such object in {self.url}")
        return target

    def copy_if_absent(self, source: str, target: str) -> None:
        """Hard-link, or copy where the file system has no links."""
        original, copy = self.path(source), self._target(target)
        with _translated(target):
            try:
                self._link(original, copy)
            except OSError as error:
                if error.errno not in {errno.EMLINK, errno.EPERM, errno.EOPNOTSUPP}:
                    raise
                self.put_if_absent(target, original)

    def _target(self, key: str) -> Path:
        return self.root / checked_key(key)

    def _etag(self, target: Path) -> str | None:
        try:
            return _identity(target.stat())[1]
        except FileNotFoundError:
            return None

    def _link(self, source: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, target)
        except FileExistsError:
            raise ObjectExists(f"{target.relative_to(self.root)}: exists already") from None
        _sync_folder(target.parent)

    @contextlib.contextmanager
    def _staged(self, body: Body) -> Iterator[Path]:
        """A synced temporary file with the body's bytes, removed afterwards."""
        self._temporary.mkdir(parents=True, exist_ok=True)
        staged = self._temporary / uuid.uuid4().hex
        try:
            with staged.open("wb") as out:
                if isinstance(body, bytes):
                    out.write(body)
                else:
                    with body.open("rb") as source:
                        shutil.copyfileobj(source, out, 1 << 20)
                out.flush()
                os.fchmod(out.fileno(), OBJECT_MODE)
                os.fsync(out.fileno())
            yield staged
        finally:
            with contextlib.suppress(OSError):
                staged.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._temporary / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _identity(stat: os.stat_result) -> tuple[int, str]:
    """Size, and an ETag: a replaced file has another inode or time."""
    seen = f"{stat.st_ino}.{stat.st_size}.{stat.st_mtime_ns}"
    return stat.st_size, hashlib.sha256(seen.encode()).hexdigest()[:16]


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _translated(key: str) -> Iterator[None]:
    """The operating system's errors as the store's."""
    try:
        yield
    except FileNotFoundError as error:
        raise ObjectMissing(f"{key}: no such object") from error
    except OSError as error:
        where = error.filename or key
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise StoreFull(
                f"{where}: no space left", hint="free some space, then `embedmill resume`"
            ) from error
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise StoreDenied(
                f"{where}: {(error.strerror or 'denied').lower()}", hint="the store's folder must be writable"
            ) from error
        raise StoreError(f"{where}: {error.strerror or error}") from error
