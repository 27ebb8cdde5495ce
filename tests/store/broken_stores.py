"""Stores that are broken as real ones were, each in one way; and which of the probe's checks finds it."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from embedmill.errors import ObjectExists, ObjectMissing
from embedmill.store import Body, ObjectInfo, Store
from embedmill.store.memory import MemoryStore

WINDOW_S = 0.01
"""What lies between two requests of a gateway, where it checks first and then writes."""


class Over(Store):
    """A memory store with the six methods and nothing else: what the broken ones begin with."""

    def __init__(self, inner: MemoryStore | None = None) -> None:
        self.inner = inner or MemoryStore("over")
        self.url = self.inner.url

    def get(self, key: str) -> bytes:
        return self.inner.get(key)

    def head(self, key: str) -> ObjectInfo:
        return self.inner.head(key)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        return self.inner.list(prefix)

    def put(self, key: str, body: Body, *, if_match: str | None = None) -> str:
        return self.inner.put(key, body, if_match=if_match)

    def put_if_absent(self, key: str, body: Body) -> str:
        return self.inner.put_if_absent(key, body)

    def delete(self, key: str) -> None:
        self.inner.delete(key)

    def is_taken(self, key: str) -> bool:
        try:
            self.inner.head(key)
        except ObjectMissing:
            return False
        return True


class IgnoresTheCondition(Over):
    """`If-None-Match` is not looked at: mountx#19, cloudemu#657."""

    def put_if_absent(self, key: str, body: Body) -> str:
        return self.inner.put(key, body)


class InvertsTheCondition(Over):
    """Refuses free keys and replaces taken ones: ceph#69991."""

    def put_if_absent(self, key: str, body: Body) -> str:
        if not self.is_taken(key):
            raise ObjectExists(f"{key}: exists already")
        return self.inner.put(key, body)


class ChecksThenWrites(Over):
    """Creation is emulated by a HEAD and a PUT, as gateways do: right, until two come at once."""

    def put_if_absent(self, key: str, body: Body) -> str:
        if self.is_taken(key):
            raise ObjectExists(f"{key}: exists already")
        time.sleep(WINDOW_S)
        return self.inner.put(key, body)


class TellsTwoThatTheyWon(Over):
    """Keeps the first object, and tells a second creator that came meanwhile that it was its own."""

    def __init__(self) -> None:
        super().__init__()
        self.creating: Counter[str] = Counter()
        self.lock = threading.Lock()

    @contextmanager
    def counted(self, key: str) -> Iterator[None]:
        with self.lock:
            self.creating[key] += 1
        try:
            yield
        finally:
            with self.lock:
                self.creating[key] -= 1

    def put_if_absent(self, key: str, body: Body) -> str:
        with self.counted(key):
            time.sleep(WINDOW_S)
            try:
                return self.inner.put_if_absent(key, body)
            except ObjectExists:
                if self.creating[key] > 1:
                    return self.inner.head(key).etag
                raise


class ArbitratesPerDoor(Over):
    """Each address of the cluster locks for itself: rustfs#1659. One alone is right."""

    def __init__(self, inner: MemoryStore) -> None:
        super().__init__(inner)
        self.lock = threading.Lock()

    def put_if_absent(self, key: str, body: Body) -> str:
        with self.lock:
            if self.is_taken(key):
                raise ObjectExists(f"{key}: exists already")
            time.sleep(WINDOW_S)
            return self.inner.put(key, body)


class IgnoresTheConditionOnFiles(Over):
    """`CompleteMultipartUpload` does not look at `If-None-Match`: ministack#1435, LocalStack."""

    def put_if_absent(self, key: str, body: Body) -> str:
        return self.inner.put(key, body) if isinstance(body, Path) else self.inner.put_if_absent(key, body)


class IgnoresIfMatch(Over):
    """`If-Match` is not looked at where there is an object."""

    def put(self, key: str, body: Body, *, if_match: str | None = None) -> str:
        return self.inner.put(key, body, if_match=if_match if not self.is_taken(key) else None)


class CreatesByIfMatch(Over):
    """`If-Match` on a missing key creates it."""

    def put(self, key: str, body: Body, *, if_match: str | None = None) -> str:
        return self.inner.put(key, body, if_match=if_match if self.is_taken(key) else None)


class RefusesTheRightEtag(Over):
    """No `If-Match` is ever met, as where a proxy changes ETags (`-gzip`)."""

    def put(self, key: str, body: Body, *, if_match: str | None = None) -> str:
        return self.inner.put(key, body, if_match=if_match and if_match + "-gzip")


class ShowsOldBytes(Over):
    """The first read after an object was replaced shows the old one: StorageGRID's default consistency."""

    def __init__(self) -> None:
        super().__init__()
        self.old: dict[str, bytes] = {}

    def put(self, key: str, body: Body, *, if_match: str | None = None) -> str:
        before = self.inner.get(key) if self.is_taken(key) else None
        etag = self.inner.put(key, body, if_match=if_match)
        if before is not None:
            self.old[key] = before
        return etag

    def get(self, key: str) -> bytes:
        return self.old.pop(key) if key in self.old else self.inner.get(key)


class RemembersThatItWasMissing(Over):
    """A 404 is cached, and said once more after the object was written: as proxies and CDNs do."""

    def __init__(self) -> None:
        super().__init__()
        self.missing: set[str] = set()

    def head(self, key: str) -> ObjectInfo:
        if key in self.missing:
            self.missing.remove(key)
            raise ObjectMissing(f"{key}: no such object")
        try:
            return self.inner.head(key)
        except ObjectMissing:
            self.missing.add(key)
            raise


class ListsWithoutTheLast(Over):
    """A list lacks the newest key: listings that are consistent only eventually."""

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        return iter(list(self.inner.list(prefix))[:-1])


class ListsTwice(Over):
    """A key at a page's end comes again at the start of the next one."""

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        for number, info in enumerate(self.inner.list(prefix)):
            yield from itertools.repeat(info, 2 if number == 10 else 1)


class ListsByPrefix(Over):
    """`a` finds `ab/` too: a prefix taken for letters."""

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        return (info for info in self.inner.list("") if info.key.startswith(prefix))


class CutsLargeBodies(Over):
    """A body beyond 1 MiB is stored without its end."""

    def put(self, key: str, body: Body, *, if_match: str | None = None) -> str:
        return self.inner.put(key, body[: 1 << 20] if isinstance(body, bytes) else body, if_match=if_match)


class ChangesLines(Over):
    """Line ends are "mended" on the way."""

    def put(self, key: str, body: Body, *, if_match: str | None = None) -> str:
        mended = body.replace(b"\r\n", b"\n") if isinstance(body, bytes) else body
        return self.inner.put(key, mended, if_match=if_match)


class SwapsBytes(Over):
    """Two bytes in the middle of a large object change places: damage that keeps the size."""

    def get(self, key: str) -> bytes:
        data = self.inner.get(key)
        middle = len(data) // 2
        if len(data) < 100:
            return data
        return data[: middle - 1] + data[middle : middle + 1] + data[middle - 1 : middle] + data[middle + 1 :]


class HasOneEtag(Over):
    """Every object has the same ETag."""

    def put(self, key: str, body: Body, *, if_match: str | None = None) -> str:
        self.inner.put(key, body)
        return "etag"

    def put_if_absent(self, key: str, body: Body) -> str:
        self.inner.put_if_absent(key, body)
        return "etag"

    def head(self, key: str) -> ObjectInfo:
        return replace(self.inner.head(key), etag="etag")

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        return (replace(info, etag="etag") for info in self.inner.list(prefix))


class ReturnsAnotherEtag(Over):
    """What PUT returns is not what HEAD shows, as with checksums that a proxy computes anew."""

    def put(self, key: str, body: Body, *, if_match: str | None = None) -> str:
        return self.inner.put(key, body, if_match=if_match) + "-1"


class CopiesOver(Over):
    """Copies do not look at the condition, which S3's CopyObject had none of for years."""

    def copy_if_absent(self, source: str, target: str) -> None:
        self.inner.put(target, self.inner.get(source))


class KeepsWhatIsDeleted(Over):
    """A delete is answered and not done: buckets under retention."""

    def delete(self, key: str) -> None:
        return


class ShowsWhatIsDeleted(Over):
    """A deleted object is listed for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.deleted: dict[str, ObjectInfo] = {}

    def delete(self, key: str) -> None:
        if self.is_taken(key):
            self.deleted[key] = self.inner.head(key)
        self.inner.delete(key)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        gone = [info for key, info in self.deleted.items() if key.startswith(prefix)]
        self.deleted.clear()
        return iter(sorted([*gone, *self.inner.list(prefix)], key=lambda info: info.key))


@dataclass(frozen=True)
class BrokenStore:
    """How to open one, by all of its doors, and the checks that must find it."""

    open: Callable[[], list[Store]]
    found_by: frozenset[str]


def one_door(make: Callable[[], Store], *found_by: str) -> BrokenStore:
    return BrokenStore(lambda: [make()], frozenset(found_by))


def two_doors() -> list[Store]:
    inner = MemoryStore("cluster")
    return [ArbitratesPerDoor(inner), ArbitratesPerDoor(inner)]


BROKEN: dict[str, BrokenStore] = {
    "ignores the condition": one_door(IgnoresTheCondition, "create-once", "create-race", "create-file"),
    "inverts the condition": one_door(InvertsTheCondition, "create-once", "create-race"),
    "checks, then writes": one_door(ChecksThenWrites, "create-race"),
    "tells two that they won": one_door(TellsTwoThatTheyWon, "create-race"),
    "arbitrates per door": BrokenStore(two_doors, frozenset({"create-race"})),
    "ignores the condition on files": one_door(IgnoresTheConditionOnFiles, "create-file"),
    "ignores If-Match": one_door(IgnoresIfMatch, "if-match"),
    "creates by If-Match": one_door(CreatesByIfMatch, "if-match-missing"),
    "refuses the right ETag": one_door(RefusesTheRightEtag, "if-match"),
    "shows old bytes": one_door(ShowsOldBytes, "overwrite"),
    "remembers that it was missing": one_door(RemembersThatItWasMissing, "read-after-write"),
    "lists without the last": one_door(ListsWithoutTheLast, "list"),
    "lists twice": one_door(ListsTwice, "list"),
    "lists by prefix": one_door(ListsByPrefix, "list"),
    "cuts large bodies": one_door(CutsLargeBodies, "bytes"),
    "changes lines": one_door(ChangesLines, "bytes"),
    "swaps bytes": one_door(SwapsBytes, "bytes"),
    "has one ETag": one_door(HasOneEtag, "etag"),
    "returns another ETag": one_door(ReturnsAnotherEtag, "etag"),
    "copies over": one_door(CopiesOver, "copy"),
    "keeps what is deleted": one_door(KeepsWhatIsDeleted, "delete"),
    "shows what is deleted": one_door(ShowsWhatIsDeleted, "delete"),
}
RACY = ["checks, then writes", "tells two that they won", "arbitrates per door"]
