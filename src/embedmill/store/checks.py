"""What the probe asks of a store, one function a question.

A check returns what it found in a few words, or raises `Broken`. Every door of a store must give the same
answers: two addresses of a cluster may each be right alone and wrong together.
"""

from __future__ import annotations

import contextlib
import gzip
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from embedmill.errors import ObjectExists, ObjectMissing, PreconditionFailed, StoreError, StoreUnavailable
from embedmill.store.base import Copies, Store, join_key
from embedmill.store.hashing import file_sha256
from embedmill.store.sameness import object_sha256
from embedmill.store.scratch import scratch_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGE_BYTES = 17 << 20
"""Beyond the size from which files are sent in parts."""
LISTED = 24


class Broken(Exception):
    """A store does something else than it must; the message says what."""


@dataclass(frozen=True)
class Ground:
    """Where the probe works: a store by one or several doors, below a prefix of its own."""

    doors: tuple[Store, ...]
    racers: int = 32
    rounds: int = 3
    prefix: str = field(default_factory=lambda: f".embedmill-probe-{secrets.token_hex(8)}")
    written: set[str] = field(default_factory=set)

    @property
    def store(self) -> Store:
        """The first door."""
        return self.doors[0]

    def key(self, *parts: str) -> str:
        """A key below the prefix, which will be removed."""
        key = join_key(self.prefix, *parts)
        self.written.add(key)
        return key

    def clear(self) -> None:
        """Remove what was written, and what a list of the prefix still shows, as far as the store lets us."""
        try:
            with ThreadPoolExecutor(self.racers) as pool:
                list(pool.map(self.store.delete, sorted(self.written)))
        except StoreUnavailable:  # the rest would wait for nothing, too
            return
        except StoreError:
            pass
        for door in self.doors:
            with contextlib.suppress(StoreError):
                for info in list(door.list(self.prefix)):
                    door.delete(info.key)


def creates_once(ground: Ground) -> str:
    """A second create is refused through every door, and the first one's bytes stay."""
    key = ground.key("create-once")
    try:
        etag = ground.store.put_if_absent(key, b"first")
    except ObjectExists:
        raise Broken("a free key cannot be created: the condition may be inverted") from None
    for number, door in enumerate(ground.doors):
        with refused(ObjectExists, "a taken key was created again"):
            door.put_if_absent(key, f"second, through door {number}".encode())
        expect(door.get(key) == b"first", "the first object was replaced by a create that came second")
        expect(door.head(key).etag == etag, "a refused create changed the ETag")
    return "the second create is refused"


def creates_once_in_a_race(ground: Ground) -> str:
    """Of many creators at once, through all doors, exactly one wins, and the object is the winner's."""
    for round_ in range(ground.rounds):
        key = ground.key("race", str(round_))
        winner = _only_winner(ground, key)
        for door in ground.doors:
            expect(door.get(key) == _own_body(winner), "the object is not the winner's")
    return f"one winner in each of {ground.rounds} races of {ground.racers}"


def creates_files_once(ground: Ground) -> str:
    """Large files, which clients send in parts, keep their bytes and are created once as well."""
    key = ground.key("create-file")
    with scratch_folder() as folder:
        first, second = folder / "first", folder / "second"
        first.write_bytes(secrets.token_bytes(LARGE_BYTES))
        second.write_bytes(secrets.token_bytes(LARGE_BYTES + 1))
        ground.store.put_if_absent(key, first)
        sent = file_sha256(first)
        expect(ground.store.head(key).size_bytes == LARGE_BYTES, "a large file lost bytes")
        expect(object_sha256(ground.store, key) == sent, "a large file has other bytes than were sent")
        for door in ground.doors:
            with refused(ObjectExists, "a taken key was created again by a large file"):
                door.put_if_absent(key, second)
        expect(object_sha256(ground.store, key) == sent, "a large file replaced an object that was there")
    return f"a file of {LARGE_BYTES >> 20} MiB arrives whole, and a second one is refused"


def replaces_only_what_was_read(ground: Ground) -> str:
    """A put with the object's ETag is done, one with an older ETag is refused."""
    key = ground.key("if-match")
    first = ground.store.put(key, b"1")
    try:
        second = ground.store.put(key, b"2", if_match=first)
    except PreconditionFailed:
        raise Broken("a put with the right ETag is refused") from None
    for door in ground.doors:
        with refused(PreconditionFailed, "a put with an old ETag was done"):
            door.put(key, b"3", if_match=first)
        expect(door.get(key) == b"2", "a put with an old ETag left its bytes")
    expect(ground.store.head(key).etag == second != first, "the ETag is not the one that the put returned")
    return "a put with an old ETag is refused"


def never_creates_by_replacing(ground: Ground) -> str:
    """A put with an ETag never makes an object where there is none."""
    deleted, never = ground.key("if-match-deleted"), ground.key("if-match-never")
    etag = ground.store.put(deleted, b"1")
    ground.store.delete(deleted)
    for key in (deleted, never):
        with refused(PreconditionFailed, "a put with an ETag was done although there is no object"):
            ground.store.put(key, b"2", if_match=etag)
        expect(_missing(ground.store, key), "a put with an ETag made an object where there was none")
    return "a put with an ETag needs an object"


def reads_what_was_written(ground: Ground) -> str:
    """An object is seen as soon as it is written, also by who has just been told that it is missing."""
    for number, door in enumerate(ground.doors * 2):
        key = ground.key("read-after-write", str(number))
        expect(_missing(door, key), "an object is there that was never written")
        body = f"written {number}".encode()
        ground.store.put_if_absent(key, body)
        expect(not _missing(door, key), "an object that was just written is reported missing")
        expect(door.get(key) == body, "an object that was just written has other bytes")
    return "what is written is seen at once, also after it was missing"


def reads_the_newest(ground: Ground) -> str:
    """Once an object has been replaced nobody sees the old one."""
    key = ground.key("overwrite")
    for number in range(4):
        body = f"version {number}".encode()
        etag = ground.store.put(key, body)
        for door in ground.doors:
            expect(door.get(key) == body, "old bytes are shown after the object was replaced")
            expect(door.head(key).etag == etag, "an old ETag is shown after the object was replaced")
    return "replaced objects are seen at once"


def deletes(ground: Ground) -> str:
    """A deleted object is gone for everybody, and its key is free again."""
    key = ground.key("delete", "object")
    ground.store.put(key, b"1")
    ground.store.delete(key)
    ground.store.delete(key)
    for door in ground.doors:
        expect(_missing(door, key), "a deleted object is still there")
        listed = [info.key for info in door.list(join_key(ground.prefix, "delete"))]
        expect(not listed, "a deleted object is still listed")
    try:
        ground.store.put_if_absent(key, b"2")
    except ObjectExists:
        raise Broken("a key cannot be created again after it was deleted") from None
    return "deleted objects are gone, and their keys are free"


def lists(ground: Ground) -> str:
    """A list has every object of a folder once, in order, with size and ETag; and nothing else."""
    names = [f"{number:02}" if number % 3 else f"{number:02}/deeper" for number in range(LISTED)]
    written = {ground.key("list", "a", name): name.encode() * number for number, name in enumerate(names)}
    etags = {key: ground.store.put(key, body) for key, body in written.items()}
    ground.store.put(ground.key("list", "ab"), b"beside the folder")
    for door in ground.doors:
        found = list(door.list(join_key(ground.prefix, "list", "a")))
        listed = [info.key for info in found]
        expect(len(set(listed)) == len(listed), "a list has an object twice")
        expect(
            set(written) <= set(listed), f"a list lacks {len(set(written) - set(listed))} of {LISTED} objects"
        )
        expect(set(listed) <= set(written), "a list has an object that is not in the folder")
        expect(listed == sorted(listed), "a list is not in order of its keys")
        expect(
            all((info.size_bytes, info.etag) == (len(written[info.key]), etags[info.key]) for info in found),
            "a list has other sizes or ETags than its objects",
        )
    return f"all of {LISTED} objects, each once; more than one page was not tried"


def copies_once(ground: Ground) -> str:
    """A copy has the original's bytes and never replaces what is there.

    It is not raced, nor are large files: their names belong to one writer, or all writers have equal bytes.
    """
    if not isinstance(ground.store, Copies):
        return "the store copies nothing by itself; objects are sent again"
    one, other, target = (ground.key("copy", name) for name in ("one", "other", "target"))
    ground.store.put(one, b"one")
    ground.store.put(other, b"the other")
    ground.store.copy_if_absent(one, target)
    expect(ground.store.get(target) == b"one", "a copy has other bytes than its original")
    with refused(ObjectExists, "a copy to a taken key was done"):
        ground.store.copy_if_absent(other, target)
    expect(ground.store.get(target) == b"one", "a copy replaced an object that was there")
    with refused(ObjectMissing, "a copy of nothing was done"):
        ground.store.copy_if_absent(ground.key("copy", "nothing"), ground.key("copy", "of-nothing"))
    return "a copy to a taken key is refused"


def keeps_bytes(ground: Ground) -> str:
    """Objects come back as they were sent, whatever is in them."""
    bodies = {
        "empty": b"",
        "every-byte": bytes(range(256)),
        "lines": b"one\r\ntwo\n\rthree\x1a\n",
        "compressed": gzip.compress(b"left as it is", mtime=0),
        "large": secrets.token_bytes((1 << 20) + 1),
    }
    for name, body in bodies.items():
        key = ground.key("bytes", name)
        ground.store.put(key, body)
        expect(
            ground.store.head(key).size_bytes == len(body),
            f"an object ({name}) has another size than was sent",
        )
        for door in ground.doors:
            expect(door.get(key) == body, f"an object ({name}) has other bytes than were sent")
    return f"{len(bodies)} objects came back as they were sent, the largest of 1 MiB"


def tells_versions_apart(ground: Ground) -> str:
    """The ETag changes with the bytes, and is the same wherever the store says it."""
    key = ground.key("etag")
    seen: set[str] = set()
    for body in (b"one", b"two", b"three"):
        etag = ground.store.put(key, body)
        expect(etag not in seen, "the ETag stays the same when the bytes change")
        for door in ground.doors:
            expect(door.head(key).etag == etag, "the ETag is not the one that the put returned")
        seen.add(etag)
    return "every version has its own"


Check = Callable[[Ground], str]
CHECKS: dict[str, Check] = {
    "create-once": creates_once,
    "create-race": creates_once_in_a_race,
    "create-file": creates_files_once,
    "if-match": replaces_only_what_was_read,
    "if-match-missing": never_creates_by_replacing,
    "read-after-write": reads_what_was_written,
    "overwrite": reads_the_newest,
    "delete": deletes,
    "list": lists,
    "copy": copies_once,
    "bytes": keeps_bytes,
    "etag": tells_versions_apart,
}


def expect(fulfilled: bool, otherwise: str) -> None:
    """Raise `Broken` with the words, unless."""
    if not fulfilled:
        raise Broken(otherwise)


@contextlib.contextmanager
def refused(error: type[StoreError], otherwise: str) -> Iterator[None]:
    """Raise `Broken` with the words, unless the error comes."""
    try:
        yield
    except error:
        return
    raise Broken(otherwise)


def _missing(store: Store, key: str) -> bool:
    """Whether neither of the two ways to read finds it; both must say the same."""
    missing = 0
    for read in (store.head, store.get):
        try:
            read(key)
        except ObjectMissing:
            missing += 1
    expect(missing != 1, "HEAD and GET do not agree whether an object is there")
    return missing == 2


def _own_body(number: int) -> bytes:
    """Bytes of a racer; of a size of their own, so that a HEAD is enough to see that they are another's."""
    return f"{number:02}".encode() * (number + 1)


def _only_winner(ground: Ground, key: str) -> int:
    """Let creators start together, each through the next door; the number of the one that won."""
    start = threading.Barrier(ground.racers)

    def race(number: int) -> bool:
        door = ground.doors[number % len(ground.doors)]
        start.wait()
        try:
            door.put_if_absent(key, _own_body(number))
        except ObjectExists:
            return False
        return True

    with ThreadPoolExecutor(ground.racers) as pool:
        won = [number for number, is_winner in enumerate(pool.map(race, range(ground.racers))) if is_winner]
    expect(
        len(won) == 1, f"{len(won)} of {ground.racers} that created one key at once were told that they had"
    )
    return won[0]
