"""Images of a catalog: what identifies them at plan time, and their bytes at work time."""

from __future__ import annotations

import functools
import glob
import itertools
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from embedmill.arrow import byte_views, plain_array
from embedmill.catalog.files import IN_STORE, fixed_part, opened
from embedmill.catalog.images.base import (
    Refused,
    Root,
    content_identity,
    missing_identity,
    version_identity,
)
from embedmill.catalog.images.folder import Folder
from embedmill.catalog.images.objects import Objects
from embedmill.errors import CatalogError, ObjectMissing
from embedmill.extras import optional
from embedmill.types import Reason, Rejection

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from embedmill.catalog.images.guard import Resolve
    from embedmill.catalog.images.urls import Urls
    from embedmill.spec import CatalogSpec
    from embedmill.store import Store

THREADS = 16
_URL = re.compile(r"\s*(https?|ftp|gopher|file|data|javascript):|.*://", re.IGNORECASE | re.DOTALL)
"""What is meant as a URL, good or bad; everything else is a path or a key."""

ValueT = TypeVar("ValueT")
ResultT = TypeVar("ResultT")


class Found(NamedTuple):
    """Identities or contents of N images: binary[N], null where there is none; and rows that were refused."""

    values: pa.BinaryArray
    rejected: dict[int, Rejection]

    @classmethod
    def of(cls, results: Sequence[bytes | Rejection | None]) -> Found:
        """Sort out what became of each row."""
        rejected = {row: found for row, found in enumerate(results) if isinstance(found, Rejection)}
        values = [None if isinstance(found, Rejection) else found for found in results]
        return cls(pa.array(values, pa.binary()), rejected)


def _nothing(done: int) -> None:
    """Tell nobody how many images are done."""


class ImageSource:
    """Finds the images of a catalog's image columns; `has_urls` once it has identified one by URL."""

    def __init__(
        self,
        spec: CatalogSpec,
        *,
        root: Path,
        store: Store | None,
        resolve: Resolve | None = None,
        loops: int = 1,
    ) -> None:
        """Take the image root from `spec.images`, or else from the folder of `spec.source`.

        `resolve` is the name server for URLs; None: the system's. Asked are as many at a time as so many
        `loops` would.

        Raises:
            SpecError: The root is in the store, and there is none.
        """
        self._spec, self._resolve, self._loops = spec, resolve, loops
        self.has_urls = False
        self._root = _image_root(spec, root, store)

    def identity(
        self,
        column: pa.Array,
        versions: pa.Array | None = None,
        on_done: Callable[[int], None] = _nothing,
        *,
        name: str = "",
    ) -> Found:
        """What changes when an image does, for each row.

        Rejected are URLs that do not lead to an image; a file or object that is not there has an identity
        that says so. `name` is the column's; `versions` has the column `image_version`. While URLs are waited
        for, `on_done` hears how many there are done.

        Raises:
            CatalogError: The column is neither binary nor text, or the image root is gone.
            MissingExtra: There are URLs, and no HTTP client.
        """
        plain = _plain(column, name)
        if pt.is_binary(plain.type):
            return Found.of(_in_parallel(_identity_of, byte_views(plain)))
        values = _values(plain)
        known = (
            _texts(versions, len(values)) if self._spec.image_identity == "version" else [None] * len(values)
        )
        self.has_urls = self.has_urls or any(map(is_url, values))
        of_urls: dict[str, bytes | Rejection] = {}
        urls = [
            value for value, version in zip(values, known, strict=True) if version is None and is_url(value)
        ]
        if urls:
            of_urls = self._urls.identify([str(url) for url in urls], on_done)

        def identify(wanted: tuple[bytes | str | None, str | None]) -> bytes | Rejection | None:
            value, version = wanted
            if isinstance(value, str) and version is None and value in of_urls:
                return of_urls[value]
            return self._identify(value, version)

        return Found.of(_in_parallel(identify, list(zip(values, known, strict=True))))

    def fetch(
        self,
        column: pa.Array,
        identities: pa.Array | None,
        on_done: Callable[[int], None] = _nothing,
        *,
        name: str = "",
    ) -> Found:
        """Bytes of each row's image. All are in memory at once: call it for a shard, not for a catalog.

        A row whose image is no longer the one of `identities` is rejected as `source-changed`. `on_done`
        hears how many are done, from several threads; what it raises ends this.

        Raises:
            CatalogError: The column is neither binary nor text, the image root is gone, or the images of one
                call pass 2 GiB.
            MissingExtra: There are URLs, and no HTTP client.
        """
        plain = _plain(column, name)
        if pt.is_binary(plain.type) and identities is None:  # they are here: nothing is copied
            hollow = pc.equal(pc.binary_length(plain), 0)
            return Found(pc.if_else(hollow, None, plain) if pc.any(hollow).as_py() else plain, {})
        values = _values(plain)
        planned = identities.to_pylist() if identities is not None else [None] * len(values)
        pairs = list(zip(values, planned, strict=True))
        urls = {value: identity for value, identity in pairs if isinstance(value, str) and is_url(value)}
        of_urls = self._urls.load(urls, on_done) if urls else {}
        loaded = itertools.count(len(of_urls))

        def fetch(wanted: tuple[bytes | str | None, bytes | None]) -> bytes | Rejection | None:
            value, expected = wanted
            if isinstance(value, str) and value in of_urls:
                return of_urls[value] if urls[value] == expected else _changed(value)
            on_done(next(loaded))
            return self._fetch(value, expected)

        found = _in_parallel(fetch, pairs, THREADS * self._loops)
        results = [
            _hollow(value) if each == b"" and isinstance(value, str) else each
            for (value, _), each in zip(pairs, found, strict=True)
        ]
        if sum(len(found) for found in results if isinstance(found, bytes)) >= 2**31:
            raise CatalogError("the images of one shard pass 2 GiB", hint="set a smaller work.shard_rows")
        return Found.of(results)

    @functools.cached_property
    def _urls(self) -> Urls:
        with optional("aiohttp, which fetches images by URL,", "aiohttp", "yarl", extra="http"):
            from embedmill.catalog.images.guard import system_addresses
            from embedmill.catalog.images.urls import Urls
        by_content = self._spec.image_identity == "bytes"
        resolve = self._resolve or system_addresses
        return Urls(self._spec.fetch, by_content=by_content, resolve=resolve, loops=self._loops)

    def _identify(self, value: bytes | str | None, version: str | None) -> bytes | None:
        if value is None:
            return None
        if isinstance(value, bytes):
            return content_identity(value)
        if version is not None:
            return version_identity(value, version)
        try:
            if self._spec.image_identity == "bytes":
                return content_identity(self._root.load(value).content)
            return self._root.identify(value)
        except Refused:
            return missing_identity(value)

    def _fetch(self, value: bytes | str | None, expected: bytes | None) -> bytes | Rejection | None:
        if value is None:
            return None
        if isinstance(value, bytes):
            found, content = content_identity(value), value
        else:
            try:
                found, content = self._root.load(value)
            except Refused as refused:
                return refused.rejection
        kind = expected[:2] if expected is not None else b"v1"
        if kind == b"b1":
            found = content_identity(content)
        return content if kind == b"v1" or found == expected else _changed(value)


def is_url(value: object) -> bool:
    """Whether a reference is meant as a URL."""
    return isinstance(value, str) and _URL.match(value) is not None


def _texts(column: pa.Array | None, count: int) -> list[str | None]:
    """Versions as texts, None where there is none."""
    return plain_array(column).cast(pa.string()).to_pylist() if column is not None else [None] * count


def _image_root(spec: CatalogSpec, root: Path, store: Store | None) -> Root:
    if spec.images is not None and not spec.images.startswith(IN_STORE):
        return Folder(root / spec.images)
    if spec.images is not None:
        return Objects(opened(store), spec.images.removeprefix(IN_STORE).strip("/"))
    if spec.source.startswith(IN_STORE):
        return Objects(
            opened(store), _folder_in_store(spec.source.removeprefix(IN_STORE).strip("/"), opened(store))
        )
    path = root / spec.source
    if path.is_dir():
        return Folder(path)
    return Folder(path.parent if path.exists() else root / fixed_part(spec.source))


def _folder_in_store(key: str, store: Store) -> str:
    try:
        store.head(key)
    except ObjectMissing:
        return fixed_part(key) if glob.has_magic(key) else key
    return key.rpartition("/")[0]


def _plain(column: pa.Array, name: str) -> pa.Array:
    """The column in its plain type: bytes, references or nothing. `name` is what an error calls it."""
    plain = plain_array(column)
    if not (pt.is_binary(plain.type) or pt.is_string(plain.type) or pt.is_null(plain.type)):
        raise CatalogError(
            f"image column {name!r} is {plain.type}",
            hint="images are bytes, or text with paths, keys or URLs; of several, each has its own column",
        )
    return plain


def _values(plain: pa.Array) -> list[bytes | str | None]:
    """Bytes or references; empty ones are None."""
    return [value or None for value in plain.to_pylist()]


def _identity_of(content: memoryview | None) -> bytes | None:
    return content_identity(content) if content else None


def _in_parallel(
    work: Callable[[ValueT], ResultT], values: Sequence[ValueT], threads: int = THREADS
) -> list[ResultT]:
    """`work` on every value, in order, by many threads: the time goes into waiting."""
    step = max(1, -(-len(values) // (threads * 4)))
    slices = [values[start : start + step] for start in range(0, len(values), step)]
    with ThreadPoolExecutor(threads) as pool:
        parts = pool.map(lambda some: [work(value) for value in some], slices)
        return [result for part in parts for result in part]


def _hollow(reference: str) -> Rejection:
    """A file that is there and has nothing in it is no missing image, but a damaged one."""
    return Rejection(Reason.IMAGE_INVALID, f"{reference}: the file is empty", lasting=True)


def _changed(value: bytes | str) -> Rejection:
    what = "the image's bytes" if isinstance(value, bytes) else value
    return Rejection(Reason.SOURCE_CHANGED, f"{what}: changed since the plan")
