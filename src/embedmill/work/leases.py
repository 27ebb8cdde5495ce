"""Leases: who works on a shard. They save work; correctness rests on the commit record alone.

A lease is an object that its holder keeps changing. Others take it over when its ETag has not changed for a
while on their own monotonic clock, so that no two clocks are ever compared; or at once when the holder was a
process of this very machine and is gone.
"""

from __future__ import annotations

import os
import socket
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from embedmill.errors import ObjectExists, ObjectMissing, PreconditionFailed, StoreError
from embedmill.spec.documents import Lease

if TYPE_CHECKING:
    from pathlib import Path

    from embedmill.release.layout import Home

EXPIRY_S = 30.0
ENDED = frozenset({"Z", "X"})
"""States of a process whose parent has not looked yet."""


@dataclass
class Leases:
    """The leases of one run, as one worker sees them."""

    home: Home
    run: str
    worker: str
    expiry_s: float = EXPIRY_S
    _seen: dict[str, tuple[str, float]] = field(default_factory=dict)
    _holders: dict[str, tuple[str, Lease | None]] = field(default_factory=dict)

    def claim(self, shard: str, *, again: bool = False) -> HeldLease | None:
        """Take a shard's lease, or None while somebody else holds it.

        `again`: the lease of its second attempt, beside the first, so that one worker at a time makes it.
        """
        key = self.home.run_key(self.run, "leases", f"{shard}{'.again' if again else ''}.json")
        mine = Lease(
            shard=shard,
            worker=self.worker,
            host=socket.gethostname(),
            pid=os.getpid(),
            process_started=process_start(os.getpid()) or 0.0,
            beat=0,
        )
        if key in self._seen:  # one request, where a create that is refused takes four
            taken = self._take_over(key, mine)
            if taken is not None or key in self._seen:
                return taken
        try:
            return HeldLease(self.home, key, mine, self.home.store.put_if_absent(key, mine.to_bytes()))
        except ObjectExists:
            return self._take_over(key, mine)

    def _take_over(self, key: str, mine: Lease) -> HeldLease | None:
        try:
            etag = self.home.store.head(key).etag
            if not (self._expired(key, etag) or self._holder_is_gone(key, etag)):
                return None
            return HeldLease(self.home, key, mine, self.home.store.put(key, mine.to_bytes(), if_match=etag))
        except ObjectMissing:  # it was released
            self._seen.pop(key, None)
            return None
        except PreconditionFailed:
            return None

    def _holder_is_gone(self, key: str, etag: str) -> bool:
        """Whether the holder was a process of this machine that runs no more; each lease is read once."""
        if self._holders.get(key, ("", None))[0] != etag:
            self._holders[key] = (etag, self._read(key))
        lease = self._holders[key][1]
        if lease is None:
            return False
        return lease.host == socket.gethostname() and process_start(lease.pid) != lease.process_started

    def _read(self, key: str) -> Lease | None:
        """The lease; None if it is damaged: then only silence can tell."""
        data = self.home.store.get(key)
        try:
            return Lease.from_bytes(data, key)
        except StoreError:
            return None

    def _expired(self, key: str, etag: str) -> bool:
        now = self.home.world.monotonic()
        seen, since = self._seen.get(key, ("", now))
        if seen != etag:
            self._seen[key] = (etag, now)
            return False
        return now - since >= self.expiry_s


@dataclass
class HeldLease:
    """A lease that this worker holds until it stops beating. Threads may share it."""

    home: Home
    key: str
    lease: Lease
    etag: str
    lost: bool = False
    _using: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def beat(self) -> None:
        """Show that the holder is alive; notes if the lease was taken over meanwhile."""
        with self._using:
            self._beat()

    def release(self) -> None:
        """Leave the shard to whoever comes next, at once; a lease that was taken over is left alone.

        Stores delete unconditionally, but replace under a condition. So a last beat finds out whose the lease
        is, and starts everybody's wait anew: nobody takes it over in the expiry's time, which the delete has
        to arrive. One that is later still, or overtaken by the end of its process, may delete another's
        lease. Then two work on one shard, and one of them did so in vain: the commit record decides.
        """
        with self._using:
            self._beat()
            if not self.lost:
                self.lost = True
                self.home.store.delete(self.key)

    def _beat(self) -> None:
        if self.lost:
            return
        self.lease = self.lease.model_copy(update={"beat": self.lease.beat + 1})
        try:
            self.etag = self.home.store.put(self.key, self.lease.to_bytes(), if_match=self.etag)
        except (PreconditionFailed, ObjectMissing):
            self.lost = True


def process_start(pid: int) -> float | None:
    """When a process of this machine started, in clock ticks since boot; None if there is none."""
    from pathlib import Path

    stat: Path = Path(f"/proc/{pid}/stat")
    try:
        fields = stat.read_text().rsplit(")", 1)[1].split()
        return None if fields[0] in ENDED else float(fields[19])
    except (OSError, IndexError, ValueError):
        return None
