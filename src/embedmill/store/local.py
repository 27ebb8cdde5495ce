"""A folder as a store.

Create-if-absent is `link(2)`: temporary file, fsync, hard link, fsync of the folder. Linking is atomic and
refuses an existing name, which renaming does not. Objects get mode 0444; a copy is a hard link, and so is
what was adopted. Replacing
holds a lock file, because POSIX has no compare-and-swap of files.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import itertools
import os
import shutil
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from embedmill.errors import (
    ObjectExists,
    ObjectMissing,
    PreconditionFailed,
    StoreAbsent,
    StoreDenied,
    StoreError,
    StoreFull,
)
from embedmill.store.base import Body, Leftovers, ObjectInfo, Store, body_stream, checked_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

TEMPORARY = ".tmp"
LOCK = "lock"
OBJECT_MODE = 0o444
PLACE_ATTEMPTS = 100
NO_LINK = frozenset({errno.EMLINK, errno.EPERM, errno.EOPNOTSUPP, errno.EXDEV})
"""Why a file system makes no link between two files."""
SHARE = (
    "it is another user's, and users who share a store need one group, umask 002 and folders of mode 2775: "
    "docs/stores.md says how"
)
MOST_LINKS = 40
"""That Linux follows on one way: https://man7.org/linux/man-pages/man7/path_resolution.7.html."""


class LocalStore(Store):
    """Objects are the files below `root`; `root/.tmp` has unfinished ones."""

    def __init__(self, root: str | Path) -> None:
        """Open the folder; it is made by the first write."""
        self.root = _plain(Path(root).absolute())
        self.url = str(self.root)
        self._temporary = self.root / TEMPORARY

    def __repr__(self) -> str:
        return f"LocalStore({self.url!r})"

    def get(self, key: str) -> bytes:
        """Bytes of the object."""
        with translated(key):
            return self.path(key).read_bytes()

    def head(self, key: str) -> ObjectInfo:
        """Size and ETag (inode and change times) of the object."""
        with translated(key):
            stat = self.path(key).stat()
            return ObjectInfo(key, *_identity(stat), modified_s=stat.st_mtime)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Objects below `prefix`, by key."""
        top = self._target(prefix) if prefix else self.root
        begins = len(os.path.join(self.root, ""))  # noqa: PTH118 - as a string, which is ten times faster
        for key in sorted(str(path)[begins:] for path in _files(top)):
            if not key.startswith(TEMPORARY + "/"):
                with contextlib.suppress(ObjectMissing):  # deleted since
                    yield self.head(key)

    def folders(self, prefix: str) -> Sequence[str]:
        """Names of the folders directly in `prefix`."""
        top = self._target(prefix) if prefix else self.root
        names = (entry.name for entry in _entries(top) if entry.is_dir(follow_symlinks=False))
        return sorted(name for name in names if prefix or name != TEMPORARY)

    def put(self, key: str, body: Body, *, if_match: str | None = None) -> str:
        """Create or replace the object."""
        target = self._target(key)
        with translated(str(target), writing=True), self._staged(body) as (staged, etag), self._locked():
            if if_match is not None and self._etag(target) != if_match:
                raise PreconditionFailed(f"{key}: changed since it was read")
            _sync_folders(_placed(staged.rename, target))
            return etag

    def put_if_absent(self, key: str, body: Body) -> str:
        """Create the object by a hard link from a synced temporary file."""
        target = self._target(key)
        with translated(str(target), writing=True), self._staged(body) as (staged, etag):
            self._link(staged, target)
            return etag

    def adopt_if_absent(self, key: str, file: Path) -> str:
        """Create the object by a hard link to the file, or of a copy where it lies on another file system."""
        target = self._target(key)
        with translated(str(target), writing=True):
            try:
                with file.open("rb") as written:
                    if os.fstat(written.fileno()).st_nlink > 1:  # another object's, or somebody else's
                        return self.put_if_absent(key, file)
                    etag = _settle(written.fileno())
                self._link(file, target)
            except OSError as error:
                if error.errno not in NO_LINK:
                    raise
                return self.put_if_absent(key, file)
            return etag

    def delete(self, key: str) -> None:
        """Remove the file, and the folders that this leaves empty."""
        target = self._target(key)
        if not target.parent.is_dir():
            return
        with translated(key, writing=True), self._locked():
            target.unlink(missing_ok=True)
        for folder in target.relative_to(self.root).parents[:-1]:
            try:
                (self.root / folder).rmdir()
            except OSError:  # not empty, or someone was faster
                return

    def path(self, key: str) -> Path:
        """The object's file."""
        target = self._target(key)
        with translated(key):
            if not target.is_file():
                raise ObjectMissing(f"{key}: no such object in {self.url}")
        return target

    def copy_if_absent(self, source: str, target: str) -> None:
        """Hard-link, or copy where the file system has no links."""
        original, copy = self.path(source), self._target(target)
        with translated(str(copy), writing=True):
            try:
                self._link(original, copy)
            except OSError as error:
                if error.errno not in NO_LINK:
                    raise
                self.put_if_absent(target, original)

    def link_many(self, pairs: Sequence[tuple[str, str]]) -> Sequence[tuple[str, str]]:
        """Hard-link each, and sync a folder once for all that came into it.

        An object that is there already may be somebody's who died before its folder was synced.
        """
        changed: set[Path] = set()
        left: list[tuple[str, str]] = []
        for source, target in pairs:
            try:
                changed |= self._linked(self.path(source), self._target(target))
            except ObjectExists:
                changed |= self._folders(target)
            except (OSError, ObjectMissing):
                left.append((source, target))
        with translated("", writing=True):
            _sync_folders(changed)
        return left

    def sweep_unfinished(self, older_than_s: float, *, dry_run: bool = False) -> Leftovers:
        """Remove temporary files that nobody has written to for so long, by their modification times."""
        newest_ns = time.time_ns() - round(older_than_s * 1e9)
        objects = size_bytes = 0
        for file in sorted(_files(self._temporary)):
            if file == self._temporary / LOCK:
                continue
            with translated(str(file), writing=True), contextlib.suppress(FileNotFoundError):
                stat = file.stat()
                if stat.st_mtime_ns <= newest_ns:
                    if not dry_run:
                        file.unlink()
                    objects, size_bytes = objects + 1, size_bytes + stat.st_size
        return Leftovers(objects, size_bytes)

    def _target(self, key: str) -> Path:
        if checked_key(key).split("/", 1)[0] == TEMPORARY:
            raise StoreError(f"{key!r} is not a key", hint=f"{TEMPORARY} is for unfinished objects")
        return self.root / key

    def _folders(self, key: str) -> set[Path]:
        """Those that an object lies in, up to the store's own."""
        return {self.root / folder for folder in Path(key).parents}

    def _etag(self, target: Path) -> str | None:
        try:
            return _identity(target.stat())[1]
        except FileNotFoundError:
            return None

    def _link(self, source: Path, target: Path) -> None:
        _sync_folders(self._linked(source, target))

    def _linked(self, source: Path, target: Path) -> set[Path]:
        """Link a file; returns the folders that are to be synced yet."""
        try:
            return _placed(lambda place: os.link(source, place), target)
        except FileExistsError as error:
            if error.filename2 is None or target.is_dir():  # an object or a folder is in the way
                raise
            raise ObjectExists(f"{target.relative_to(self.root)}: exists already") from None

    @contextlib.contextmanager
    def _staged(self, body: Body) -> Iterator[tuple[Path, str]]:
        """A synced temporary file with the body's bytes, removed afterwards; and its ETag."""
        with body_stream(body) as source:
            self._temporary.mkdir(parents=True, exist_ok=True)
            staged = self._temporary / uuid.uuid4().hex
            try:
                with staged.open("wb") as out:
                    shutil.copyfileobj(source, out, 1 << 20)
                    out.flush()
                    etag = _settle(out.fileno())
                yield staged, etag
            finally:
                with contextlib.suppress(OSError):
                    staged.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self._temporary.mkdir(parents=True, exist_ok=True)
        with (self._temporary / LOCK).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _plain(path: Path) -> Path:
    """The folder without `..`: where only it is mounted, nothing can walk up to it through another one.

    Links stay, as mounts may be named by them; but `..` leads to the folder above what a link leads to.
    """
    plain, ahead, links = Path(path.anchor), [*reversed(path.parts[1:])], 0
    while ahead and links <= MOST_LINKS:
        part = ahead.pop()
        if part != "..":
            plain /= part
            continue
        with contextlib.suppress(OSError):  # no link
            ahead += ["..", *reversed(plain.readlink().parts)]
            links += 1
        plain = plain.parent
    return path if ahead else plain  # a link that leads to itself: the first write says so


def _settle(handle: int) -> str:
    """Make an open file an object's: read only, with a time of its own, on the disk. Returns its ETag."""
    os.fchmod(handle, OBJECT_MODE)
    now_ns = time.time_ns()  # file systems stamp by a clock of some milliseconds, and reuse inodes at once
    os.utime(handle, ns=(now_ns, now_ns))
    os.fsync(handle)
    return _identity(os.fstat(handle))[1]


def _identity(stat: os.stat_result) -> tuple[int, str]:
    """Size, and an ETag: a replaced file has another inode or time."""
    seen = f"{stat.st_ino}.{stat.st_size}.{stat.st_mtime_ns}"
    return stat.st_size, hashlib.sha256(seen.encode()).hexdigest()[:16]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder; nothing if there is none, or not any more."""
    try:
        return list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise _as_store_error(str(folder), error, writing=False) from error


def _files(top: Path) -> Iterator[Path]:
    """Files below a folder, whatever comes and goes meanwhile."""
    for entry in _entries(top):
        if entry.is_dir(follow_symlinks=False):
            yield from _files(Path(entry.path))
        elif entry.is_file():
            yield Path(entry.path)


def _placed(put: Callable[[Path], object], target: Path) -> set[Path]:
    """Put a file in its folder; the folder is made, again if a delete removes it meanwhile.

    Returns the folders that changed: once these are synced, the file is there for good.
    """
    folder, attempt = target.parent, 0
    while True:
        attempt += 1
        made = list(itertools.takewhile(lambda each: not each.exists(), (folder, *folder.parents)))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            put(target)
            return {folder, *(each.parent for each in made)}
        except FileNotFoundError:
            if attempt == PLACE_ATTEMPTS:
                raise
        except FileExistsError as error:  # of the object, or of mkdir: which then looks, and finds it gone
            if attempt == PLACE_ATTEMPTS or error.filename2 is not None or folder.is_file():
                raise


def _sync_folders(folders: Iterable[Path]) -> None:
    for folder in folders:
        with contextlib.suppress(FileNotFoundError):  # someone deleted the object, and with it the folder
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


@contextlib.contextmanager
def translated(key: str, *, writing: bool = False) -> Iterator[None]:
    """The operating system's errors as the store's; "not found" is a missing object, unless `writing`."""
    try:
        yield
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not writing:
            raise ObjectMissing(f"{key}: no such object") from error
        raise _as_store_error(key, error, writing=writing) from error


def _as_store_error(key: str, error: OSError, *, writing: bool) -> StoreError:
    where, said = error.filename or key, (error.strerror or str(error)).lower()
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return StoreFull(f"{where}: no space left ({said})", hint="free some space, then run again")
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        hint = f"the store's folder must be {'writable' if writing else 'readable'} for this user"
        return StoreDenied(f"{where}: {said}", hint=f"{hint}; {SHARE}" if _is_anothers(where) else hint)
    if error.errno == errno.ENOTDIR:
        return StoreAbsent(f"{where}: {said}", hint="correct the store's URL, or move what lies there")
    return StoreError(f"{where}: {said}")


def _is_anothers(where: str) -> bool:
    """Whether what is there, or what is nearest above it, belongs to another user."""
    path = Path(where)
    for each in (path, *path.parents) if path.is_absolute() else ():
        with contextlib.suppress(OSError):
            return each.stat().st_uid != os.geteuid()
    return False
