"""Digests made by a process for each core, started once there is enough to do.

CPython holds its lock while it digests a short message, so that threads would take turns. A thread for each
process sends and receives; what it sends are the messages' own buffers.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Self

import numpy as np

from embedmill.cores import cores
from embedmill.digest import digests_from_bytes
from embedmill.hashing import child
from embedmill.hashing.messages import digests_of, split
from embedmill.types import DIGEST_BYTES

if TYPE_CHECKING:
    import pyarrow as pa

    from embedmill.types import Digests

WORTH_ROWS = 60_000
"""Messages before which no process is started: they take about as long as starting two."""

FEWEST_ROWS = 4096
"""Messages that are worth a request of their own."""

Pending = Callable[[], "Digests"]
"""Waits for digests: S16[N]."""


class Hasher:
    """Digests messages, from some number on in other processes; its `with` block ends them.

    Digests are those of `digests_of`, wherever they are made.
    """

    def __init__(
        self,
        processes: int | None = None,
        *,
        worth_rows: int = WORTH_ROWS,
        fewest_rows: int = FEWEST_ROWS,
    ) -> None:
        """Start nothing yet. `processes`: by default one for each of `cores()`."""
        self._most = cores() if processes is None else processes
        self._worth_rows, self._fewest_rows, self._seen = worth_rows, fewest_rows, 0
        self._children: list[_Child] = []
        self._idle: SimpleQueue[_Child] = SimpleQueue()
        self._threads: ThreadPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    @property
    def processes(self) -> tuple[int, ...]:
        """The ids of those that were started."""
        return tuple(each.pid for each in self._children)

    @property
    def ahead(self) -> int:
        """How many columns are best submitted before the first one's digests are asked for."""
        return 2 if self._threads else 0

    def submit(self, tails: pa.LargeBinaryArray, head: bytes = b"") -> Pending:
        """Begin to digest the head with each tail.

        What a process that was lost had to do is done here: the digests are the same.
        """
        self._seen += len(tails)
        if self._threads is None and self._most > 1 and self._seen >= self._worth_rows:
            self._start()
        if self._threads is None:
            found = digests_of(tails, head)
            return lambda: found
        parts = max(1, min(len(self._children), len(tails) // self._fewest_rows))
        edges = np.linspace(0, len(tails), parts + 1).astype(int).tolist()
        slices = [tails.slice(start, end - start) for start, end in pairwise(edges)]
        return _joined([self._threads.submit(self._ask, each, head) for each in slices])

    def close(self) -> None:
        """End the processes, whatever they are doing."""
        for each in self._children:
            each.kill()
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)
        self._children, self._threads = [], None

    def _start(self) -> None:
        try:
            for _ in range(self._most):
                self._children.append(_Child())
        except OSError:  # no more processes: the work goes on in those that there are, or here
            self._most = len(self._children)
        for each in self._children:
            self._idle.put(each)
        if self._children:
            self._threads = ThreadPoolExecutor(len(self._children), "hashing")

    def _ask(self, tails: pa.LargeBinaryArray, head: bytes) -> bytes:
        found = self._idle.get()
        try:
            answer = found.digests(tails, head)
        finally:
            self._idle.put(found)  # a lost one, too: there is one for each thread, so that none waits
        return digests_of(tails, head).tobytes() if answer is None else answer


def _joined(parts: list[Future[bytes]]) -> Pending:
    return lambda: digests_from_bytes(b"".join(part.result() for part in parts))


class _Child:
    """One process, and the socket that it is asked over."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", str(Path(child.__file__))],
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    stderr=subprocess.DEVNULL,
                    env={name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ},
                    cwd="/",
                    start_new_session=True,  # Ctrl-C is for this process alone
                )
            except OSError:
                self._socket.close()
                raise
        self.pid = self._process.pid

    def digests(self, tails: pa.LargeBinaryArray, head: bytes) -> bytes | None:
        """Digests of the head with each tail, one after another; None where the process has ended."""
        try:
            return self._asked(tails, head)
        except OSError:
            self.kill()  # its socket is closed: it is not waited for again
            return None

    def _asked(self, tails: pa.LargeBinaryArray, head: bytes) -> bytes:
        offsets, joined = split(tails)
        answer = bytearray(len(tails) * DIGEST_BYTES)
        request = child.REQUEST.pack(len(tails), len(head), joined.nbytes)
        self._socket.sendall(request + head + offsets.tobytes())
        self._socket.sendall(joined)
        done = 0
        while done < len(answer):
            got = self._socket.recv_into(memoryview(answer)[done:])
            if got == 0:
                raise ConnectionError("the process has ended")
            done += got
        return bytes(answer)

    def kill(self) -> None:
        """End it; it has nothing to lose."""
        self._process.kill()
        self._process.wait()
        self._socket.close()
