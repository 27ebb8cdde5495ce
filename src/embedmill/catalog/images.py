"""Images of a catalog: what identifies them at plan time, and their bytes at work time.

An identity starts with a two-byte tag that names its kind and version:

    b1  SHA-256 of the content                             a column of bytes
    p1  u32 length, reference; u64 size; i64 mtime in ns   a path below the image folder
    k1  u32 length, reference; ETag                        an object key below the store's prefix
    m1  reference                                          missing when it was looked for

Numbers are big-endian, texts UTF-8. References never leave the image root: `..`, absolute paths and
links that lead out of it are refused unread.
"""

from __future__ import annotations

import errno
import functools
import glob
import hashlib
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

import pyarrow as pa
import pyarrow.types as pt

from embedmill.arrow import plain_array
from embedmill.catalog.files import IN_STORE, fixed_part, opened
from embedmill.errors import CatalogError, ObjectMissing, StoreError
from embedmill.store import checked_key, join_key
from embedmill.types import Reason, Rejection

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from embedmill.spec import CatalogSpec
    from embedmill.store import Store

THREADS = 16
MAX_IMAGE_BYTES = 256 << 20
_ABOUT_ONE_FILE = {
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EACCES,
    errno.EPERM,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.EINVAL,
}
"""Errors that reject one image; any other, such as a file server that is gone, stops the reading."""

ValueT = TypeVar("ValueT")
ResultT = TypeVar("ResultT")


class ImageSource:
    """Finds the images of a catalog's image columns."""

    def __init__(self, spec: CatalogSpec, *, root: Path, store: Store | None) -> None:
        """Take the image root from `spec.images`, or else from the folder of `spec.source`.

        Raises:
            SpecError: It is in the store, and there is none.
        """
        self._root = _image_root(spec, root, store)

    def identity(self, column: pa.Array) -> pa.BinaryArray:
        """What changes when an image does, for each row; null where there is no image (null or empty).

        Raises:
            CatalogError: The column is neither binary nor text, or the image root is gone.
        """
        values = _values(column)
        return pa.array(_in_parallel(self._identify, values), pa.binary())

    def fetch(
        self, column: pa.Array, identities: pa.Array | None
    ) -> tuple[pa.BinaryArray, dict[int, Rejection]]:
        """Bytes of each row's image, null where there is none, and the rows that have none to give.

        A row whose image is no longer the one of `identities` is rejected as `source-changed`. All bytes are
        in memory at once: call it for a batch, not for a catalog.

        Raises:
            CatalogError: The column is neither binary nor text, the image root is gone, or the images of one
                call pass 2 GiB.
        """
        values = _values(column)
        expected = identities.to_pylist() if identities is not None else [None] * len(values)
        results = _in_parallel(self._fetch, list(zip(values, expected, strict=True)))
        rejected = {row: found for row, found in enumerate(results) if isinstance(found, Rejection)}
        contents = [None if isinstance(found, Rejection) else found for found in results]
        if sum(len(content) for content in contents if content is not None) >= 2**31:
            raise CatalogError("the images of one batch pass 2 GiB", hint="set a smaller work.batch_images")
        return pa.array(contents, pa.binary()), rejected

    def _identify(self, value: bytes | str | None) -> bytes | None:
        if value is None:
            return None
        if isinstance(value, bytes):
            return _content_identity(value)
        try:
            return self._root.identify(value)
        except _Refused:
            return b"m1" + value.encode()

    def _fetch(self, wanted: tuple[bytes | str | None, bytes | None]) -> bytes | Rejection | None:
        value, expected = wanted
        if value is None:
            return None
        try:
            found = (
                _Image(_content_identity(value), value)
                if isinstance(value, bytes)
                else self._root.load(value)
            )
        except _Refused as refused:
            return refused.rejection
        if expected is not None and found.identity != expected:
            return _changed(value)
        return found.content


class _Refused(Exception):
    """One image cannot be had: an answer that never leaves this module."""

    def __init__(self, detail: str, reason: Reason = Reason.IMAGE_MISSING) -> None:
        super().__init__(detail)
        self.rejection = Rejection(reason, detail)


class _Image(NamedTuple):
    identity: bytes
    content: bytes


class _Root(Protocol):
    """Where references lead; both raise _Refused."""

    def identify(self, reference: str) -> bytes: ...

    def load(self, reference: str) -> _Image: ...


class _Folder:
    """Images are files below a folder."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._real_folder = functools.lru_cache(maxsize=4096)(self._resolved_folder)

    def identify(self, reference: str) -> bytes:
        return _path_identity(reference, self._found(reference)[1])

    def load(self, reference: str) -> _Image:
        path, _ = self._found(reference)
        try:
            with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:  # noqa: PTH123
                before = os.fstat(file.fileno())
                if before.st_size > MAX_IMAGE_BYTES:
                    raise _Refused(
                        f"{reference}: larger than {MAX_IMAGE_BYTES >> 20} MiB", Reason.IMAGE_INVALID
                    )
                content = file.read()
                identity = _path_identity(reference, before)
                if (
                    _path_identity(reference, os.fstat(file.fileno())) != identity
                    or len(content) != before.st_size
                ):
                    raise _Refused(f"{reference}: changed while it was read", Reason.SOURCE_CHANGED)
        except OSError as error:
            raise self._translated(reference, error) from error
        return _Image(identity, content)

    def _found(self, reference: str) -> tuple[str, os.stat_result]:
        """The image's real path inside the folder, and what the file system knows of it."""
        parts = reference.split("/")
        if "://" in reference:
            raise _Refused(f"{reference}: a URL; give files, object keys or bytes")
        if reference.startswith("/") or ".." in parts or "\0" in reference:
            raise _Refused(f"{reference}: leads out of the image folder {self._path}")
        try:
            folder, name = os.path.split(reference)
            path = os.path.join(self._real_folder(folder), name)  # noqa: PTH118 - a million times over
            found = os.lstat(path)
            if stat.S_ISLNK(found.st_mode):
                path = self._inside(os.path.realpath(path), reference)
                found = os.stat(path)  # noqa: PTH116
        except OSError as error:
            raise self._translated(reference, error) from error
        if not stat.S_ISREG(found.st_mode):
            raise _Refused(f"{reference}: not a file")
        return path, found

    def _resolved_folder(self, folder: str) -> str:
        return self._inside(os.path.realpath(self._path / folder), folder)

    def _inside(self, path: str, reference: str) -> str:
        if not Path(path).is_relative_to(os.path.realpath(self._path)):
            raise _Refused(f"{reference}: a link that leads out of the image folder {self._path}")
        return path

    def _translated(self, reference: str, error: OSError) -> Exception:
        if error.errno in _ABOUT_ONE_FILE and self._path.is_dir():
            return _Refused(f"{reference}: {(error.strerror or 'cannot be read').lower()} in {self._path}")
        if not self._path.is_dir():
            return CatalogError(f"the image folder {self._path} does not exist", hint="set catalog.images")
        return CatalogError(
            f"{self._path}/{reference}: {error.strerror}", hint="run again when it can be read"
        )


class _Objects:
    """Images are objects below a prefix of the store."""

    def __init__(self, store: Store, prefix: str) -> None:
        self._store, self._prefix = store, prefix

    def identify(self, reference: str) -> bytes:
        key = self._key(reference)
        try:
            return b"k1" + _sized(reference) + self._store.head(key).etag.encode()
        except ObjectMissing:
            raise self._missing(reference) from None

    def load(self, reference: str) -> _Image:
        key = self._key(reference)
        try:
            content = self._store.get(key)
        except ObjectMissing:
            raise self._missing(reference) from None
        # After the bytes: an object that is replaced in between then has an ETag that nobody planned with.
        return _Image(self.identify(reference), content)

    def _key(self, reference: str) -> str:
        try:
            return join_key(self._prefix, checked_key(reference))
        except StoreError as error:
            raise _Refused(error.message) from None

    def _missing(self, reference: str) -> _Refused:
        return _Refused(f"{reference}: no such object below {self._store.url}/{self._prefix}")


def _image_root(spec: CatalogSpec, root: Path, store: Store | None) -> _Root:
    if spec.images is not None and not spec.images.startswith(IN_STORE):
        return _Folder(root / spec.images)
    if spec.images is not None:
        return _Objects(opened(store), spec.images.removeprefix(IN_STORE).strip("/"))
    if spec.source.startswith(IN_STORE):
        return _Objects(
            opened(store), _folder_in_store(spec.source.removeprefix(IN_STORE).strip("/"), opened(store))
        )
    path = root / spec.source
    if path.is_dir():
        return _Folder(path)
    return _Folder(path.parent if path.exists() else root / fixed_part(spec.source))


def _folder_in_store(key: str, store: Store) -> str:
    try:
        store.head(key)
    except ObjectMissing:
        return fixed_part(key) if glob.has_magic(key) else key
    return key.rpartition("/")[0]


def _values(column: pa.Array) -> list[bytes | str | None]:
    """Bytes or references; empty ones are None."""
    plain = plain_array(column)
    if not (pt.is_binary(plain.type) or pt.is_string(plain.type) or pt.is_null(plain.type)):
        raise CatalogError(
            f"an image column is {plain.type}", hint="images are bytes, or text with paths or keys"
        )
    return [value or None for value in plain.to_pylist()]


def _in_parallel(work: Callable[[ValueT], ResultT], values: Sequence[ValueT]) -> list[ResultT]:
    """`work` on every value, in order, by many threads: the time goes into waiting."""
    step = max(1, -(-len(values) // (THREADS * 4)))
    slices = [values[start : start + step] for start in range(0, len(values), step)]
    with ThreadPoolExecutor(THREADS) as pool:
        parts = pool.map(lambda some: [work(value) for value in some], slices)
        return [result for part in parts for result in part]


def _changed(value: bytes | str) -> Rejection:
    what = "the image's bytes" if isinstance(value, bytes) else value
    return Rejection(Reason.SOURCE_CHANGED, f"{what}: changed since the plan")


def _content_identity(content: bytes) -> bytes:
    return b"b1" + hashlib.sha256(content).digest()


def _path_identity(reference: str, found: os.stat_result) -> bytes:
    size, changed = found.st_size.to_bytes(8, "big"), found.st_mtime_ns.to_bytes(8, "big", signed=True)
    return b"p1" + _sized(reference) + size + changed


def _sized(reference: str) -> bytes:
    text = reference.encode()
    return len(text).to_bytes(4, "big") + text
