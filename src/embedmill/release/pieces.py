"""Files that come in pieces, several at a time, and are kept once their bytes are right.

A file on its way is a sparse file; a journal beside it has a line for each piece that lies in it. So a
process that is killed loses only the pieces that were just coming.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from embedmill.errors import ObjectMissing, ReleaseCorrupt
from embedmill.store import LocalPaths, Ranges, Store, join_key
from embedmill.store.cache import in_parallel
from embedmill.store.hashing import file_sha256
from embedmill.store.local import OBJECT_MODE, translated
from embedmill.types import Progress

if TYPE_CHECKING:
    from embedmill.spec.documents import FileEntry

PIECE_BYTES = 4 << 20
"""Bytes of one request: so much of each connection is lost by a kill, and so much memory it takes."""


@dataclass(frozen=True)
class Piece:
    """A part of a file: bytes from `start` up to `stop`."""

    file: PartialFile
    start: int
    stop: int


@dataclass
class PartialFile:
    """A file that is not there yet: `stem` names its parts in the work folder, `target` where it will be."""

    entry: FileEntry
    stem: Path
    target: Path
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _open: int = 0
    _kept: frozenset[int] | None = None

    @property
    def part(self) -> Path:
        """The bytes that came."""
        return self.stem.with_name(f"{self.stem.name}.part")

    @property
    def journal(self) -> Path:
        """Which pieces they are."""
        return self.stem.with_name(f"{self.stem.name}.pieces")

    @property
    def kept(self) -> frozenset[int]:
        """Starts of the pieces that an earlier process left."""
        if self._kept is None:
            self._kept = self._read_journal()
        return self._kept

    def _read_journal(self) -> frozenset[int]:
        try:
            lines = self.journal.read_bytes().split(b"\n")[:-1]  # a line without an end was being written
            there = self.part.stat().st_size == self.entry.size_bytes
        except FileNotFoundError:
            return frozenset()
        found = frozenset(int(line) for line in lines if line.isdigit())
        return found & frozenset(self._starts) if there else frozenset()

    @property
    def _starts(self) -> range:
        return range(0, self.entry.size_bytes, PIECE_BYTES)

    @property
    def lacking_bytes(self) -> int:
        """Bytes that have to come yet."""
        return sum(piece.stop - piece.start for piece in self.lacking())

    def lacking(self) -> list[Piece]:
        """The pieces that have to come yet."""
        return [piece for piece in self.all() if piece.start not in self.kept]

    def all(self) -> list[Piece]:
        """All pieces."""
        return [Piece(self, start, min(start + PIECE_BYTES, self.entry.size_bytes)) for start in self._starts]

    def begin(self) -> None:
        """Make the files that pieces go to."""
        if not self.kept:
            self.journal.unlink(missing_ok=True)
            self.part.unlink(missing_ok=True)
            self.part.touch()
            os.truncate(self.part, self.entry.size_bytes)
        self._open = len(self.lacking())

    def write(self, piece: Piece, data: bytes) -> bool:
        """Keep a piece; whether it was the last one."""
        with self.part.open("r+b", buffering=0) as out:
            rest, offset = memoryview(data), piece.start
            while rest:
                written = os.pwrite(out.fileno(), rest, offset)
                rest, offset = rest[written:], offset + written
        with self._lock:
            with self.journal.open("ab", buffering=0) as journal:
                journal.write(b"%d\n" % piece.start)
            self._open -= 1
            return self._open == 0

    def is_right(self) -> bool:
        """Whether the bytes are those of the manifest."""
        return file_sha256(self.part) == self.entry.sha256

    def forget(self) -> None:
        """Believe nothing that came."""
        self._kept = frozenset()
        self.journal.unlink(missing_ok=True)
        self.part.unlink(missing_ok=True)

    def finish(self) -> None:
        """Give the file its place; it is on the disk."""
        with self.part.open("rb+") as out:
            os.fchmod(out.fileno(), OBJECT_MODE)
            os.fsync(out.fileno())
        self.target.parent.mkdir(parents=True, exist_ok=True)
        self.part.rename(self.target)
        self.journal.unlink(missing_ok=True)


@dataclass
class Fetching:
    """Brings files below `prefix`; counts files that became whole, and bytes that came."""

    store: Store
    prefix: str
    partials: list[PartialFile]
    total_bytes: int
    on_progress: Callable[[Progress], None]
    whole_files: int = 0
    came_bytes: int = 0
    _done_bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def all(self) -> None:
        """Bring them.

        Raises:
            ReleaseCorrupt: An object is missing, or has other bytes.
        """
        self._done_bytes = self.total_bytes - sum(file.lacking_bytes for file in self.partials)
        self._tell(0)
        lacking = [piece for file in self.partials for piece in file.lacking()]
        for file in self.partials:
            with translated(str(file.part), writing=True):
                file.begin()
                if not file.lacking():
                    self._complete(file)
        in_parallel(self.store, self._bring, lacking)

    def _bring(self, piece: Piece) -> None:
        data = self._read(piece)
        with translated(str(piece.file.part), writing=True):
            last = piece.file.write(piece, data)
            self._tell(len(data))
            if last:
                self._complete(piece.file)

    def _read(self, piece: Piece) -> bytes:
        key = join_key(self.prefix, piece.file.entry.path)
        try:
            data = read_range(self.store, key, piece.start, piece.stop)
        except ObjectMissing:
            raise ReleaseCorrupt(f"{self.store.url}/{key}: is missing") from None
        if len(data) != piece.stop - piece.start:
            raise ReleaseCorrupt(
                f"{self.store.url}/{key}: has {piece.start + len(data)} bytes, the manifest says "
                f"{piece.file.entry.size_bytes}"
            )
        return data

    def _complete(self, file: PartialFile) -> None:
        """Keep a file whose bytes are right; what an earlier process left may be torn, and comes anew."""
        if not file.is_right() and file.kept:
            file.forget()
            file.begin()
            for piece in file.all():
                data = self._read(piece)
                file.write(piece, data)
                self._tell(len(data), again=True)
        if not file.is_right():
            file.forget()
            key = join_key(self.prefix, file.entry.path)
            raise ReleaseCorrupt(f"{self.store.url}/{key}: its bytes are not those that were published")
        file.finish()
        with self._lock:
            self.whole_files += 1

    def _tell(self, came: int, *, again: bool = False) -> None:
        with self._lock:
            self.came_bytes += came
            self._done_bytes += 0 if again else came
            self.on_progress(Progress("fetch", self._done_bytes, self.total_bytes, "bytes"))


def read_range(store: Store, key: str, start: int, stop: int) -> bytes:
    """Bytes of a part of an object, at the cost of that part where the store can; fewer where it ends before.

    Raises:
        ObjectMissing: There is no such object.
    """
    if isinstance(store, Ranges):
        return store.get_range(key, start, stop)
    if isinstance(store, LocalPaths):
        with translated(key), store.path(key).open("rb", buffering=0) as source:
            source.seek(start)
            return source.read(stop - start)
    return store.get(key)[start:stop]
