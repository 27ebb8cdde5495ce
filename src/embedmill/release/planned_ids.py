"""Digests of the planned items' ids, which the join needs: made while loops compute, and kept in a file.

A refresh waits for loops that start, and most of what is left to do afterwards is this.
"""

from __future__ import annotations

import os
import tempfile
import threading
import weakref
from collections import deque
from concurrent.futures import Future
from itertools import accumulate
from typing import TYPE_CHECKING

from embedmill.catalog import id_messages
from embedmill.digest import digest_bytes, digests_from_bytes
from embedmill.hashing import Hasher
from embedmill.release.items import ID, read_part
from embedmill.types import DIGEST_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from embedmill.hashing import Pending
    from embedmill.release.layout import Home
    from embedmill.spec.documents import FileEntry, Plan
    from embedmill.types import Digests


class PlannedIds:
    """Digests by item part: 16 bytes an item, in an unnamed file that ends with this object.

    Whoever has not let it `begin` has them made when they are asked for.
    """

    def __init__(self, home: Home, plan: Plan) -> None:
        """Make nothing yet."""
        self._home, self._parts = home, plan.item_parts
        self._starts = list(accumulate((entry.rows or 0 for entry in self._parts), initial=0))
        self._made: list[Future[None]] = [Future() for _ in self._parts]
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - the finalizer closes it
        self._closing = weakref.finalize(self, self._file.close)
        self._steps = self._making()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Make them in the background; the thread ends with the last one, or with the process."""
        if self._thread is None:
            self._thread = threading.Thread(target=lambda: list(self._steps), name="planned-ids", daemon=True)
            self._thread.start()

    def of(self, number: int) -> Digests:
        """S16[rows of a part], in the part's order; its file has been checked by then.

        Raises:
            ReleaseCorrupt: A planned file is missing or damaged.
        """
        while self._thread is None and not self._made[number].done():
            next(self._steps)
        self._made[number].result()
        start, end = self._starts[number], self._starts[number + 1]
        joined = os.pread(self._file.fileno(), (end - start) * DIGEST_BYTES, start * DIGEST_BYTES)
        return digests_from_bytes(joined)

    def _making(self) -> Iterator[None]:
        """Make those of one part after the other; what stops that is raised where they are asked for."""
        try:
            with Hasher() as hasher:
                begun: deque[tuple[int, Pending]] = deque()
                for number, entry in enumerate(self._parts):
                    begun.append((number, hasher.submit(*id_messages(self._ids(entry)))))
                    while len(begun) > hasher.ahead:
                        self._keep(*begun.popleft())
                        yield
                for each in begun:
                    self._keep(*each)
                    yield
        except Exception as error:  # noqa: BLE001 - see above
            for waiting in (each for each in self._made if not each.done()):
                waiting.set_exception(error)
            yield

    def _ids(self, entry: FileEntry) -> pa.Array:
        return read_part(self._home.verified(self._home.key(entry.path), entry), [ID]).column(ID)

    def _keep(self, number: int, digests: Pending) -> None:
        os.pwrite(self._file.fileno(), digest_bytes(digests()), self._starts[number] * DIGEST_BYTES)
        self._made[number].set_result(None)
