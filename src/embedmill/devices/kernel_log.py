"""Xid events since boot, of the kernel's log: the driver's words when a GPU or a program on it went wrong."""

from __future__ import annotations

import errno
import os
import re
from typing import TYPE_CHECKING

from embedmill.devices.commands import said

if TYPE_CHECKING:
    from collections.abc import Iterator

LOG = "/dev/kmsg"
XID = re.compile(r"NVRM: Xid \(PCI:(?P<bus>[0-9a-fA-F:.]+)\): (?P<number>\d+)")
RECORD_BYTES = 8192


def xids() -> dict[str, list[int]] | None:
    """Place on the PCI bus, as `place_of` writes it → numbers; None where the log may not be read."""
    lines = _of_device()
    if lines is None:
        lines = _of_journal()
    if lines is None:
        return None
    found: dict[str, list[int]] = {}
    for match in filter(None, map(XID.search, lines)):
        found.setdefault(place_of(match["bus"]), []).append(int(match["number"]))
    return found


def place_of(bus_id: str) -> str:
    """`00000000:3B:00.0` and `0000:3b:00` are one place: domain, bus and device."""
    domain, _, rest = bus_id.lower().split(".")[0].partition(":")
    return f"{int(domain, 16):x}:{rest}"


def _of_device() -> list[str] | None:
    try:
        log = os.open(LOG, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        return list(_records(log))
    except PermissionError:
        return None
    finally:
        os.close(log)


def _records(log: int) -> Iterator[str]:
    """A record at each read, until there is none yet."""
    while True:
        try:
            record = os.read(log, RECORD_BYTES)
        except OSError as error:
            if error.errno == errno.EPIPE:
                continue  # the oldest record was overwritten meanwhile
            if error.errno == errno.EAGAIN:
                return
            raise
        if not record:
            return
        yield from record.decode(errors="replace").splitlines()


def _of_journal() -> list[str] | None:
    """The journal shows the kernel's lines to some groups; to others it shows none, which says nothing."""
    answer = said("journalctl", "--dmesg", "--boot", "--quiet", "--no-pager", "--output=cat")
    lines = answer.out.splitlines()
    return lines if answer.code == 0 and lines else None
