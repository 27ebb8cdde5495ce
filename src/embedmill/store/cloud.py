"""A bucket as a store: S3, Google Cloud Storage or Azure, through obstore.

Every call is one attempt; who wants retries wraps the store. Conditions are the service's own:
`If-None-Match` and `If-Match` on S3 and Azure, generations on Google. On S3 an ETag is a digest of the bytes
(and of how they were uploaded): an object that gets earlier bytes back gets its earlier ETag back as well.

Bodies of up to `SINGLE_PUT` bytes are one conditional PUT. obstore reads larger ones into memory too when
they have a condition, so they are uploaded in parts to a key of their own below `.tmp`, copied by the service
to their key if that is free, and removed. That bounds memory, and a body to 5 GiB. A killed upload leaves
parts or an object below `.tmp` behind; `docs/stores.md` says how the bucket clears them.

obstore is not safe to fork: worker processes are started by running a command, never by `os.fork`.
"""

from __future__ import annotations

import contextlib
import io
import os
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, BinaryIO

from embedmill.errors import ObjectExists, ObjectMissing, PreconditionFailed, StoreError
from embedmill.store.base import Body, ObjectInfo, Store, body_stream, checked_key
from embedmill.store.cloud_config import Place, connect
from embedmill.store.cloud_errors import Failure, missing_bucket, store_error
from embedmill.store.local import translated

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from obstore import GetOptions, GetResult, PutMode

TEMPORARY = ".tmp"
MIB = 1 << 20
SINGLE_PUT = 16 * MIB
PART = 8 * MIB
"""Bytes of a part of an upload, and of a range of a download."""
STREAMED = MIB
PARALLEL = 4
COPY_LIMIT = 5 << 30
"""What S3 copies as one part."""
LARGEST_UPLOAD_PARTS = 9_000
LIST_PAGE = 1_000
TIMEOUT_S = 60.0
NO_SUCH_RANGE = 416


class CloudStore(Store):
    """Objects below a prefix of a bucket: `s3://bucket/prefix`, `gs://…`, `az://container/…`."""

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S) -> None:
        """Connect, with what the environment says; nothing is sent yet.

        `timeout_s` is how long an answer's next bytes may take.

        Raises:
            SpecError: The URL, or the environment, names nothing that can be opened.
            MissingExtra: obstore is not installed.
        """
        self._place = Place.parse(url)
        self.url = self._place.url
        self._seen = False
        try:
            self._client, self._endpoint = connect(self._place, timeout_s)
        except ValueError as error:  # what pyo3 raises for options that it cannot read
            raise StoreError(f"{self.url}: an option in the environment cannot be read") from error
        except self._errors() as error:
            raise self._error(error, self.url) from None

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
        return ObjectInfo(key, meta["size"], meta["e_tag"] or "")

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Objects below `prefix`, by key; all pages are read first, since services differ in their order."""
        import obstore

        top = self._path(prefix) if prefix else self._place.prefix
        found = []
        with self._translated(prefix or self.url):
            for page in obstore.list(self._client, top or None, chunk_size=LIST_PAGE):
                found += [
                    ObjectInfo(self._key(meta["path"]), meta["size"], meta["e_tag"] or "") for meta in page
                ]
        for info in sorted(found, key=lambda each: each.key):
            if not info.key.startswith(TEMPORARY + "/"):
                yield info

    def put(self, key: str, body: Body, *, if_match: str | None = None) -> str:
        """Create or replace the object; a large body is read in parts, unless there is a condition."""
        path = self._path(key)
        with body_stream(body) as source, self._translated(key):
            if if_match is None:
                return self._upload(path, source)
            try:
                return self._put(path, source.read(), self._if_unchanged(path, if_match))
            except FileNotFoundError as error:
                self._refuse_missing_bucket(error)
                raise PreconditionFailed(f"{key}: was deleted since it was read") from None

    def put_if_absent(self, key: str, body: Body) -> str:
        """Create the object: by one PUT, or by a staged upload and a conditional copy if it is large.

        Raises:
            ObjectExists: The key is taken.
            StoreError: The body has more than 5 GiB.
        """
        path = self._path(key)
        with body_stream(body) as source, self._translated(key):
            if _size(source) <= SINGLE_PUT:
                return self._put(path, source.read(), "create")
            return self._create_large(key, source)

    def delete(self, key: str) -> None:
        """Remove the object."""
        import obstore

        path = self._path(key)
        with contextlib.suppress(ObjectMissing), self._translated(key):
            obstore.delete(self._client, path)

    def copy_if_absent(self, source: str, target: str) -> None:
        """Have the service copy; on S3 as a multipart upload of one part, completed if `target` is free."""
        import obstore

        origin, path = self._path(source), self._path(target)
        try:
            with self._translated(target):
                obstore.copy(self._client, origin, path, overwrite=False)
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
                info = ObjectInfo(key, first.meta["size"], first.meta["e_tag"] or "")
                done = _write(first, out.fileno(), 0)

            def fetch(start: int) -> int:
                wanted = (start, min(start + PART, info.size_bytes))
                options: GetOptions = {"range": wanted, "if_match": info.etag}
                with self._translated(key):
                    return _write(self._get(path, options), out.fileno(), start)

            with ThreadPoolExecutor(PARALLEL) as pool:
                done += sum(pool.map(fetch, range(PART, info.size_bytes, PART)))
        if done != info.size_bytes:
            raise StoreError(f"{key}: {done} of its {info.size_bytes} bytes came", hint="try again")
        return info

    # Requests, which raise obstore's errors

    def _get(self, path: str, options: GetOptions | None = None) -> GetResult:
        import obstore

        return obstore.get(self._client, path, options=options)

    def _first_range(self, path: str) -> GetResult:
        try:
            return self._get(path, {"range": (0, PART)})
        except self._errors() as error:
            if Failure.of(error).status != NO_SUCH_RANGE:  # which an empty object answers
                raise
            return self._get(path)

    def _put(self, path: str, data: bytes, mode: PutMode) -> str:
        import obstore

        result = obstore.put(self._client, path, data, mode=mode, use_multipart=False)
        return result["e_tag"] or ""

    def _upload(self, path: str, source: BinaryIO) -> str:
        """Put without a condition, in parts if it is large."""
        size = _size(source)
        if size <= SINGLE_PUT:
            return self._put(path, source.read(), "overwrite")
        import obstore

        part = max(PART, -(-size // LARGEST_UPLOAD_PARTS))
        result = obstore.put(
            self._client, path, source, use_multipart=True, chunk_size=part, max_concurrency=PARALLEL
        )
        return result["e_tag"] or ""

    def _if_unchanged(self, path: str, etag: str) -> PutMode:
        """The condition that the object has this ETag; Google compares generations, which belong to one."""
        if self._place.scheme != "gs":
            return {"e_tag": etag}
        import obstore

        meta = obstore.head(self._client, path)
        if meta["e_tag"] != etag:
            raise PreconditionFailed(f"{path}: changed since it was read")
        return {"e_tag": etag, "version": meta["version"]}

    def _create_large(self, key: str, source: BinaryIO) -> str:
        if _size(source) > COPY_LIMIT:
            raise StoreError(f"{key}: is larger than 5 GiB, which is too much for one object here")
        staged = f"{TEMPORARY}/{uuid.uuid4().hex}"
        try:
            etag = self._upload(self._join(staged), source)
            self._copy_staged(staged, key)
        finally:
            with contextlib.suppress(StoreError), self._translated(staged):
                self._remove(self._join(staged))
        with contextlib.suppress(ObjectMissing):  # then someone deleted it at once: any ETag is outdated
            etag = self.head(key).etag
        return etag

    def _copy_staged(self, staged: str, key: str) -> None:
        import obstore

        obstore.copy(self._client, self._join(staged), self._join(key), overwrite=False)

    def _remove(self, path: str) -> None:
        import obstore

        obstore.delete(self._client, path)

    # Names and errors

    def _path(self, key: str) -> str:
        """The object's full name in the bucket."""
        if checked_key(key).split("/", 1)[0] == TEMPORARY:
            raise StoreError(f"{key!r} is not a key", hint=f"{TEMPORARY} is for unfinished objects")
        if "\\" in key:
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
