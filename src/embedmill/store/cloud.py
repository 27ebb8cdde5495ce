"""A bucket as a store: S3, Google Cloud Storage or Azure, through obstore.

Every call is one attempt; who wants retries wraps the store. Conditions are the service's own:
`If-None-Match` and `If-Match` on S3 and Azure, generations on Google. On S3 an ETag is a digest of the bytes
(and of how they were uploaded): an object that gets earlier bytes back gets its earlier ETag back as well.

A body of any size up to 5 GiB is one PUT: an object is created by one request, or it is not, and there are
no parts to clear. Multipart uploads can be completed under a condition too, but on SeaweedFS and moto several
of those won at once (`docs/stores.md`), and obstore makes none. Large files are mapped, not read: obstore
sends and hashes a mapped buffer as it is.

obstore is not safe to fork: worker processes are started by running a command, never by `os.fork`.
"""

from __future__ import annotations

import contextlib
import io
import mmap
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, Any, BinaryIO

from embedmill.errors import ObjectExists, ObjectMissing, PreconditionFailed, StoreError, StoreUnavailable
from embedmill.store.base import Body, Leftovers, ObjectInfo, Store, body_stream, checked_key
from embedmill.store.cloud_config import WHOLE_TIMEOUTS, Place, connect
from embedmill.store.cloud_errors import Failure, missing_bucket, store_error
from embedmill.store.local import translated
from embedmill.store.uploads import Uploads

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from obstore import GetOptions, GetResult, ObjectMeta, PutMode

    from embedmill.store.cloud_config import Client

MIB = 1 << 20
READ_WHOLE = 16 * MIB
"""Files of more bytes are mapped."""
PUT_LIMIT = 5 << 30
SLOWEST_UPLOAD = MIB
"""Bytes per second; an upload that is slower gets no answer in time."""
RANGE = 8 * MIB
"""Bytes of one request of a download."""
STREAMED = MIB
PARALLEL = 4
LIST_PAGE = 1_000
TIMEOUT_S = 60.0
NO_SUCH_RANGE = 416


class CloudStore(Store):
    """Objects below a prefix of a bucket: `s3://bucket/prefix`, `gs://…`, `az://container/…`."""

    remote = True

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S) -> None:
        """Connect, with what the environment says; nothing is sent yet.

        `timeout_s` is how long an answer's next bytes may take.

        Raises:
            SpecError: The URL, or the environment, names nothing that can be opened.
            MissingExtra: obstore is not installed.
        """
        self._place = Place.parse(url)
        self.url = self._place.url
        self._timeout_s = timeout_s
        self._seen = False
        self._client, self._endpoint = connect(self._place, timeout_s)
        # An attribute, so that isinstance(store, Unfinished) tells the truth.
        if self._place.service == "S3":
            self.sweep_unfinished = self._sweep_uploads

    def __repr__(self) -> str:
        return f"CloudStore({self.url!r})"

    def get(self, key: str) -> bytes:
        """Bytes of the object, in memory."""
        path = self._path(key)
        with self._translated(key):
            return bytes(self._get(path).bytes())

    def head(self, key: str) -> ObjectInfo:
        """Size and ETag of the object."""
        import obstore

        path = self._path(key)
        with self._translated(key):
            meta = obstore.head(self._client, path)
        return _info(key, meta)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Objects below `prefix`, by key; all pages are read first, since services differ in their order."""
        import obstore

        top = self._path(prefix) if prefix else self._place.prefix
        found = []
        with self._translated(prefix or self.url):
            for page in obstore.list(self._client, top or None, chunk_size=LIST_PAGE):
                found += [_info(self._key(meta["path"]), meta) for meta in page]
        yield from sorted(found, key=lambda each: each.key)

    def folders(self, prefix: str) -> Sequence[str]:
        """Names of the folders directly in `prefix`; a page of an answer has 1,000 of them."""
        import obstore

        top = self._path(prefix) if prefix else self._place.prefix
        with self._translated(prefix or self.url):
            found = obstore.list_with_delimiter(self._client, top or None)
        return sorted(path.rsplit("/", 1)[-1] for path in found["common_prefixes"])

    def put(self, key: str, body: Body, *, if_match: str | None = None) -> str:
        """Create or replace the object."""
        path = self._path(key)
        with body_stream(body) as source, self._translated(key):
            try:
                mode = "overwrite" if if_match is None else self._if_unchanged(path, if_match)
                return self._put(key, source, mode)
            except FileNotFoundError as error:
                if if_match is None:
                    raise
                self._refuse_missing_bucket(error)
                raise PreconditionFailed(f"{key}: was deleted since it was read") from None

    def put_if_absent(self, key: str, body: Body) -> str:
        """Create the object by one conditional PUT.

        Raises:
            ObjectExists: The key is taken.
            StoreError: The body has more than 5 GiB.
        """
        self._path(key)
        with body_stream(body) as source, self._translated(key):
            return self._put(key, source, "create")

    def delete(self, key: str) -> None:
        """Remove the object."""
        import obstore

        path = self._path(key)
        with contextlib.suppress(ObjectMissing), self._translated(key):
            obstore.delete(self._client, path)

    def copy_if_absent(self, source: str, target: str) -> None:
        """Have the service copy; on S3 as a multipart upload of one part, completed if `target` is free.

        Of two at once, SeaweedFS and moto let both: see `Copies`.
        """
        import obstore

        origin, path = self._path(source), self._path(target)
        try:
            with self._translated(target):
                obstore.copy(self._patient, origin, path, overwrite=False)
        except ObjectMissing:
            raise ObjectMissing(f"{source}: no such object in {self.url}") from None
        except PreconditionFailed:
            raise ObjectExists(f"{target}: exists already") from None

    def download(self, key: str, file: Path) -> ObjectInfo:
        """Write the object's bytes to a new local file; large ones by ranges in parallel.

        Memory is bounded by `PARALLEL` pieces of `STREAMED` bytes. The file is of one version, or there is
        an error.

        Raises:
            ObjectMissing: There is none.
            PreconditionFailed: It was replaced meanwhile.
        """
        path = self._path(key)
        with translated(str(file), writing=True), file.open("xb", buffering=0) as out:
            with self._translated(key):
                first = self._first_range(path)
                info = _info(key, first.meta)
                done = _write(first, out.fileno(), 0)

            def fetch(start: int) -> int:
                wanted = (start, min(start + RANGE, info.size_bytes))
                options: GetOptions = {"range": wanted, "if_match": info.etag}
                with self._translated(key):
                    return _write(self._get(path, options), out.fileno(), start)

            with ThreadPoolExecutor(PARALLEL) as pool:
                done += sum(pool.map(fetch, range(RANGE, info.size_bytes, RANGE)))
        if done != info.size_bytes:
            raise StoreUnavailable(f"{key}: {done} of its {info.size_bytes} bytes came", hint="try again")
        return info

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        """Bytes from `start` up to `stop`, by one request."""
        path = self._path(key)
        with self._translated(key):
            try:
                result = self._get(path, {"range": (start, stop)})
            except self._errors() as error:
                if Failure.of(error).status != NO_SUCH_RANGE:  # which is beyond the object's end
                    raise
                return b""
            found, there = bytes(result.bytes()), min(stop, result.meta["size"]) - start
        if len(found) != there:
            raise StoreUnavailable(f"{key}: {len(found)} of {there} bytes came", hint="try again")
        return found

    def _sweep_uploads(self, older_than_s: float, *, dry_run: bool = False) -> Leftovers:
        """Abort multipart uploads that nobody has written to for so long, by the service's clock."""
        return Uploads(self._place, self._timeout_s).sweep(older_than_s, dry_run=dry_run)

    # Requests, which raise obstore's errors

    def _get(self, path: str, options: GetOptions | None = None) -> GetResult:
        import obstore

        return obstore.get(self._client, path, options=options)

    def _first_range(self, path: str) -> GetResult:
        try:
            return self._get(path, {"range": (0, RANGE)})
        except self._errors() as error:
            if Failure.of(error).status != NO_SUCH_RANGE:  # which an empty object answers
                raise
            return self._get(path)

    def _put(self, key: str, source: BinaryIO, mode: PutMode) -> str:
        import obstore

        size = _size(source)
        if size > PUT_LIMIT:
            raise StoreError(f"{key}: is larger than 5 GiB, which no store takes as one object")
        client, data = self._client, _bytes(source, size)
        if size > READ_WHOLE:  # a timeout runs from the request's start to its answer
            client, _ = connect(self._place, self._timeout_s + size / SLOWEST_UPLOAD)
        result = obstore.put(client, self._path(key), data, mode=mode, use_multipart=False)
        return result["e_tag"] or ""

    @cached_property
    def _patient(self) -> Client:
        """For requests that move much within the service before they are answered."""
        return connect(self._place, self._timeout_s * WHOLE_TIMEOUTS)[0]

    def _if_unchanged(self, path: str, etag: str) -> PutMode:
        """The condition that the object has this ETag; Google compares generations, which belong to one."""
        if self._place.scheme != "gs":
            return {"e_tag": etag}
        import obstore

        meta = obstore.head(self._client, path)
        if meta["e_tag"] != etag:
            raise PreconditionFailed(f"{path}: changed since it was read")
        return {"e_tag": etag, "version": meta["version"]}

    # Names and errors

    def _path(self, key: str) -> str:
        """The object's full name in the bucket."""
        if "\\" in checked_key(key):
            raise StoreError(f"{key!r}: some object stores take a backslash for a slash", hint="rename it")
        return self._join(key)

    def _join(self, key: str) -> str:
        return f"{self._place.prefix}/{key}" if self._place.prefix else key

    def _key(self, path: str) -> str:
        return path[len(self._place.prefix) + 1 :] if self._place.prefix else path

    @staticmethod
    def _errors() -> tuple[type[Exception], ...]:
        from obstore.exceptions import BaseError

        return (BaseError, FileNotFoundError)

    @contextlib.contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        """Obstore's errors as ours. The first missing object of a bucket not seen yet may be its absence."""
        try:
            yield
        except self._errors() as error:
            if isinstance(error, FileNotFoundError):
                self._refuse_missing_bucket(error)
            raise self._error(error, key) from None
        self._seen = True

    def _error(self, error: Exception, key: str) -> StoreError:
        return store_error(
            error, key, service=self._place.service, bucket=self._place.bucket, endpoint=self._endpoint
        )

    def _refuse_missing_bucket(self, error: Exception) -> None:
        """Raise if it is the bucket that is missing; HEAD has no body that says so, hence the list."""
        if self._seen or Failure.of(error).code:
            return
        import obstore

        try:
            next(iter(obstore.list(self._client, self._join("-"), chunk_size=1)), None)
        except self._errors() as listed:
            if isinstance(listed, FileNotFoundError) or Failure.of(listed).status == 404:
                raise missing_bucket(self._place.bucket, self._endpoint) from None
            return  # it may not be listed: nothing is known
        self._seen = True


def _info(key: str, meta: ObjectMeta) -> ObjectInfo:
    return ObjectInfo(key, meta["size"], meta["e_tag"] or "", meta["last_modified"].timestamp())


def _bytes(source: BinaryIO, size: int) -> bytes | memoryview:
    """All bytes: those of a large file mapped, so that they take no memory that others want."""
    if isinstance(source, io.BytesIO) or size <= READ_WHOLE:
        return source.read()
    return memoryview(mmap.mmap(source.fileno(), size, access=mmap.ACCESS_READ))


def _size(source: BinaryIO) -> int:
    """Bytes from here to the end."""
    start = source.tell()
    end = source.seek(0, io.SEEK_END)
    source.seek(start)
    return end - start


def _write(result: Any, handle: int, offset: int) -> int:
    """Write a result's bytes at an offset of a file as they come; returns how many."""
    start = offset
    for piece in result.stream(min_chunk_size=STREAMED):
        rest = memoryview(piece)
        while rest:
            written = os.pwrite(handle, rest, offset)
            rest, offset = rest[written:], offset + written
    return offset - start
