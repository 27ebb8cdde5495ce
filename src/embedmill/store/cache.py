"""From a store's object to a local file, and many at once.

A remote store's objects are kept in this machine's cache under two names, which are one file: under the
store's URL, the key and the ETag, which says that just those bytes were seen there; and, once they were
checked, under their SHA-256, so that what one release has is not fetched again for the next one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import uuid
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import chain
from pathlib import Path
from threading import Event, Lock
from typing import TYPE_CHECKING, TypeVar

from embedmill.errors import ObjectExists, PreconditionFailed, StoreError
from embedmill.store.base import Copies, Downloads, Links, LocalPaths, ObjectInfo, Store, checked_key
from embedmill.store.hashing import file_sha256
from embedmill.store.local import OBJECT_MODE, translated
from embedmill.store.patience import given_up_by, pauses_end_with
from embedmill.store.pruning import note_use, prune

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


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
    target = _place(store, info)
    if not note_use(target):
        with translated(str(target), writing=True), _partial(target) as partial:
            if _save(store, key, partial).etag != info.etag:
                raise _changed(key)
            partial.chmod(OBJECT_MODE)
            partial.rename(target)
        prune(cache_folder())
    return target


def fetch_checked(store: Store, key: str, *, sha256: str, size_bytes: int) -> Path | None:
    """A local file with the object's bytes as the store has them now, or None where they are others.

    A cached download that is damaged is fetched again: it says nothing of the store.

    Raises:
        ObjectMissing: There is no such object.
    """
    file = fetch(store, key)
    good = _is(file, sha256, size_bytes)
    if isinstance(store, LocalPaths):
        return file if good else None
    if not good:
        file.unlink(missing_ok=True)
        file = fetch(store, key)
        if not _is(file, sha256, size_bytes):
            return None
    _remember(file, _content(sha256))
    return file


def fetch_content(store: Store, key: str, *, sha256: str, size_bytes: int) -> Path | None:
    """A local file with the content of this SHA-256, or None where the object has other bytes.

    Where the cache has it, under whatever key it came, a remote store is not asked for anything; so this
    says nothing of what the store has. The files of a local store are not hashed.

    Raises:
        ObjectMissing: The cache does not have it, and there is no such object.
    """
    if isinstance(store, LocalPaths):
        return store.path(key)
    known = _content(sha256)
    if note_use(known) and known.stat().st_size == size_bytes:
        return known
    return fetch_checked(store, key, sha256=sha256, size_bytes=size_bytes)


def _is(file: Path, sha256: str, size_bytes: int) -> bool:
    return file.stat().st_size == size_bytes and file_sha256(file) == sha256


def link_or_copy(file: Path, target: Path) -> None:
    """The same bytes at `target`, which must not exist: a hard link where that is possible."""
    with translated(str(target), writing=True):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(file, target)
        except OSError:
            shutil.copyfile(file, target)
            target.chmod(OBJECT_MODE)


def copy(store: Store, source: str, target: str) -> None:
    """Copy an object within the store; one that is there already is left alone."""
    try:
        if isinstance(store, Copies):
            store.copy_if_absent(source, target)
        else:
            store.put_if_absent(target, store.get(source))
    except ObjectExists:
        return


def copy_all(store: Store, pairs: Sequence[tuple[str, str]]) -> None:
    """Copy each source to its target within the store; those that are there already are left alone."""
    left = store.link_many(pairs) if isinstance(store, Links) else pairs
    in_parallel(store, lambda pair: copy(store, *pair), left)


def download(store: Store, prefix: str, target: Path) -> None:
    """Copy all objects below `prefix` into a local folder, some at a time; nothing goes through the cache."""

    def one(info: ObjectInfo) -> None:
        place = target / info.key.removeprefix(prefix).lstrip("/")
        with translated(str(place), writing=True):
            place.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(store, LocalPaths):
                shutil.copyfile(store.path(info.key), place)
            else:
                _save(store, info.key, place)

    in_parallel(store, one, list(store.list(prefix)))


def in_parallel(store: Store, work: Callable[[ItemT], ResultT], items: Sequence[ItemT]) -> list[ResultT]:
    """What `work` gives for each, in order, as many at a time as the store takes; the first error ends it."""
    if store.transfers == 1:
        return [work(item) for item in items]
    left, taking, given_up, outer = iter(range(len(items))), Lock(), Event(), given_up_by()

    def some() -> dict[int, ResultT]:
        """Those that no other thread takes: a task for each costs more than linking a small file."""
        found: dict[int, ResultT] = {}
        try:
            with pauses_end_with(*outer, given_up):
                while not given_up.is_set():
                    with taking:
                        number = next(left, None)
                    if number is None:
                        break
                    found[number] = work(items[number])
        except BaseException:
            with taking:
                is_first = not given_up.is_set()
                given_up.set()
            if is_first:  # what another failed with, or was interrupted by, says why
                raise
        return found

    with ThreadPoolExecutor(store.transfers) as pool, _giving_up(given_up):
        running = [pool.submit(some) for _ in range(min(store.transfers, len(items)))]
        found = dict(chain.from_iterable(each.result().items() for each in as_completed(running)))
    return [found[number] for number in range(len(items))]


@contextlib.contextmanager
def _giving_up(event: Event) -> Iterator[None]:
    """Tell others by the event when this fails or is interrupted."""
    try:
        yield
    except BaseException:
        event.set()
        raise


@contextlib.contextmanager
def beside(store: Store, work: Callable[[Event], ResultT]) -> Iterator[Callable[[], ResultT]]:
    """Does `work` on the store while the block does something else; gives what waits for its result.

    Before the block, where the store takes one call at a time. The block is left once the work is over: where
    the block fails or is interrupted, `work` sees so by its event, and its own error is not told.
    """
    given_up, outer = Event(), given_up_by()
    if store.transfers == 1:
        found = work(given_up)
        yield lambda: found
        return

    def watched() -> ResultT:
        with pauses_end_with(*outer, given_up):
            return work(given_up)

    with ThreadPoolExecutor(1) as pool:
        doing = pool.submit(watched)
        with _giving_up(given_up):
            yield doing.result


def _save(store: Store, key: str, file: Path) -> ObjectInfo:
    """Write the object's bytes to a new file; returns what was written."""
    try:
        if isinstance(store, Downloads):
            return store.download(key, file)
        before, content = store.head(key), store.get(key)
        if store.head(key).etag != before.etag:
            raise _changed(key)
    except PreconditionFailed:
        raise _changed(key) from None
    file.write_bytes(content)
    return before


def _changed(key: str) -> StoreError:
    return StoreError(f"{key}: changed while it was fetched", hint="run again")


@contextlib.contextmanager
def _partial(target: Path) -> Iterator[Path]:
    """A name for an unfinished file beside `target`; what is left of it afterwards is removed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{uuid.uuid4().hex}.part")
    try:
        yield partial
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def _place(store: Store, info: ObjectInfo) -> Path:
    """Where the cache has this version of an object."""
    seen = f"{store.url}\0{checked_key(info.key)}\0{info.etag}"
    place = hashlib.sha256(seen.encode()).hexdigest()
    return cache_folder() / "objects" / place[:2] / f"{place}-{info.key.rsplit('/', 1)[-1][-80:]}"


def _content(sha256: str) -> Path:
    return cache_folder() / "contents" / sha256[:2] / sha256


def _remember(file: Path, content: Path) -> None:
    """Give checked bytes their second name; one that has it already may be damaged, and is replaced."""
    with translated(str(content), writing=True), _partial(content) as partial:
        link_or_copy(file, partial)
        partial.rename(content)
