"""The store seam: six methods, and the optional powers as protocols of their own.

Keys are `/`-separated, relative, without `.` or `..` parts. A body is bytes, or the path of a local
file whose bytes are stored. An ETag changes whenever the object's bytes do; equal bytes may have equal ETags,
as on S3, so that whoever waits for a change must write something new each time.

The protocol rests on `put_if_absent`: of any number of callers, exactly one gets an ETag and all others
get `ObjectExists`; it is never emulated by a check and then a write.
"""

from __future__ import annotations

import contextlib
import io
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, Protocol, TypeAlias, runtime_checkable

from embedmill.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Body: TypeAlias = bytes | Path


@dataclass(frozen=True)
class ObjectInfo:
    """What the store knows of an object without reading it.

    `modified_s`: when it was written, in seconds since 1970 by the store's clock; for people, never for what
    has to be safe. None where the store does not tell.
    """

    key: str
    size_bytes: int
    etag: str
    modified_s: float | None = field(default=None, compare=False)


class Store(ABC):
    """Objects by key. `url` opens the same store again, in any process.

    `transfers` is how many calls at a time callers may make of many: where each waits for a network, several.
    Calls of a `remote` store are requests to a service: they cost, so that nobody looks more often than
    needed, and whether the service does what releases rest on has to be asked (`probe`).
    """

    url: str
    transfers: int = 8
    remote: bool = False

    @abstractmethod
    def get(self, key: str) -> bytes:
        """Bytes of the object.

        Raises:
            ObjectMissing: There is none.
        """

    @abstractmethod
    def head(self, key: str) -> ObjectInfo:
        """Size and ETag of the object.

        Raises:
            ObjectMissing: There is none.
        """

    @abstractmethod
    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Objects below the folder `prefix` ("" is all), in order of their keys.

        May miss objects that were created while it runs: nothing safe may rest on it.
        """

    @abstractmethod
    def put(self, key: str, body: Body, *, if_match: str | None = None) -> str:
        """Create or replace the object and return its ETag.

        Raises:
            PreconditionFailed: `if_match` is given, and the object has another ETag or is missing.
        """

    @abstractmethod
    def put_if_absent(self, key: str, body: Body) -> str:
        """Create the object and return its ETag; whole or not at all, and durable once returned.

        Raises:
            ObjectExists: The key is taken; perhaps by us, if an earlier try's answer was lost.
        """

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove the object; one that is missing is no error."""


@runtime_checkable
class LocalPaths(Protocol):
    """A store whose objects are local files."""

    def path(self, key: str) -> Path:
        """Where the object's bytes lie; read only.

        Raises:
            ObjectMissing: There is none.
        """
        ...


@runtime_checkable
class Copies(Protocol):
    """A store that copies objects without moving their bytes through the caller."""

    def copy_if_absent(self, source: str, target: str) -> None:
        """Make `target` the same object as `source`.

        No arbiter: of two copies to one target at once, some stores let both succeed. So only what has the
        same bytes, whoever copies it, may be copied.

        Raises:
            ObjectMissing: There is no `source`.
            ObjectExists: `target` is taken.
        """
        ...


@runtime_checkable
class Links(Protocol):
    """A store that gives many objects second names for less than one after the other."""

    def link_many(self, pairs: Sequence[tuple[str, str]]) -> Sequence[tuple[str, str]]:
        """As `copy_if_absent` of each source and target, but a target that is taken is left alone.

        Returns the pairs that it cannot link, to be copied: that says why. Stores around others do not have
        this power, so that what they do to a call they do to the copy of each.
        """
        ...


@runtime_checkable
class Adopts(Protocol):
    """A store that makes an object of a file without copying its bytes."""

    def adopt_if_absent(self, key: str, file: Path) -> str:
        """As `put_if_absent`; the file stays where it is, and nobody may write to it ever again.

        Raises:
            ObjectExists: The key is taken.
        """
        ...


@runtime_checkable
class Downloads(Protocol):
    """A store that writes objects to local files in bounded memory."""

    def download(self, key: str, file: Path) -> ObjectInfo:
        """Write the bytes of one version of the object to `file`, which must not exist; what was written.

        Raises:
            ObjectMissing: There is none.
            PreconditionFailed: It was replaced meanwhile; `file` is of no use.
        """
        ...


@runtime_checkable
class Ranges(Protocol):
    """A store that reads a part of an object at the cost of that part."""

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        """Bytes from `start` up to `stop`, which is more; fewer where the object ends before.

        Raises:
            ObjectMissing: There is none.
        """
        ...


@runtime_checkable
class Folders(Protocol):
    """A store that names the folders in a folder without listing all that lies below them.

    One that has become empty may be named for a while: SeaweedFS does so, and local folders are made first.
    """

    def folders(self, prefix: str) -> Sequence[str]:
        """Names of the folders directly in `prefix` ("" is all), in order; may miss what `list` may."""
        ...


@dataclass(frozen=True)
class Leftovers:
    """How much unfinished writers left; bytes are 0 where the store does not tell them."""

    objects: int
    size_bytes: int


@runtime_checkable
class Unfinished(Protocol):
    """A store where a writer that is killed leaves something that no listing shows.

    Such as a temporary file, or a multipart upload that was neither completed nor aborted.
    """

    def sweep_unfinished(self, older_than_s: float, *, dry_run: bool = False) -> Leftovers:
        """Remove what nobody has written to for so long; `dry_run` only counts.

        Sweeping too early does no harm beyond failing that write: the object never appears half.
        Nothing that is finished, and nothing younger, is touched.
        """
        ...


def checked_key(key: str) -> str:
    """The key, if it is one.

    Raises:
        StoreError: It is absolute, empty, or has empty, `.` or `..` parts.
    """
    parts = key.split("/")
    if not key or "\0" in key or any(part in {"", ".", ".."} for part in parts):
        raise StoreError(
            f"{key!r} is not a key", hint="a key is a relative path without empty, `.` or `..` parts"
        )
    return key


def join_key(*parts: str) -> str:
    """One key of several parts; empty parts vanish."""
    return str(PurePosixPath(*(part for part in parts if part)))


def folder_names(store: Store, prefix: str) -> Sequence[str]:
    """Names of the folders directly in a folder, in order: at the cost of those, if the store can."""
    if isinstance(store, Folders):
        return store.folders(prefix)
    below = (info.key[len(prefix) + 1 if prefix else 0 :] for info in store.list(prefix))
    return sorted({key.split("/", 1)[0] for key in below if "/" in key})


@contextlib.contextmanager
def body_stream(body: Body) -> Iterator[BinaryIO]:
    """The bytes of a body, to be read.

    Raises:
        StoreError: It is a file that cannot be opened.
    """
    if isinstance(body, bytes):
        yield io.BytesIO(body)
        return
    try:
        source = body.open("rb")
    except OSError as error:
        raise StoreError(f"{body}: cannot be stored: {(error.strerror or str(error)).lower()}") from error
    with source:
        yield source


def read_body(body: Body) -> bytes:
    """The bytes of a body.

    Raises:
        StoreError: It is a file that cannot be opened.
    """
    with body_stream(body) as source:
        return source.read()
