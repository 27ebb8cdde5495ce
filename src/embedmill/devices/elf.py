"""What an ELF file says of itself, read from its headers alone: drivers' libraries have 100 MB and more."""

from __future__ import annotations

import platform
import struct
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from pathlib import Path

    Segment = tuple[int, int, int, int]

LOAD, DYNAMIC = 1, 2
END, STRINGS, SONAME = 0, 5, 14
MACHINES = {"x86_64": 62, "aarch64": 183}
LONGEST = 256


def soname(path: Path) -> str | None:
    """The name that programs load a library by; None where it has none.

    Raises:
        ValueError: It is no 64-bit library of this machine's kind.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        try:
            return _soname(file)
        except struct.error:
            raise ValueError("is cut off") from None


def _soname(file: BinaryIO) -> str | None:
    segments = _segments(file)
    found: dict[int, int] = {}
    for kind, offset, _, size in segments:
        if kind == DYNAMIC:
            file.seek(offset)
            entries = file.read(size)
            if len(entries) < size:
                raise ValueError("is cut off")
            for tag, value in struct.iter_unpack("<qQ", entries):
                if tag == END:
                    break
                found[tag] = value
    if SONAME not in found or STRINGS not in found:
        return None
    file.seek(_offset(segments, found[STRINGS]) + found[SONAME])
    return file.read(LONGEST).split(b"\0")[0].decode("utf-8", "replace") or None


def _segments(file: BinaryIO) -> list[Segment]:
    """(type, offset in the file, address, size in the file) of each."""
    head = file.read(64)
    if head[:6] != b"\x7fELF\x02\x01":
        raise ValueError("no 64-bit ELF file")
    (machine,) = struct.unpack_from("<H", head, 18)
    if machine != MACHINES.get(platform.machine(), machine):
        raise ValueError("a library for other processors")
    (begin,) = struct.unpack_from("<Q", head, 32)
    size, count = struct.unpack_from("<HH", head, 54)
    found = []
    for number in range(count):
        file.seek(begin + number * size)
        kind, _, offset, address, _, length = struct.unpack("<IIQQQQ", file.read(40))
        found.append((kind, offset, address, length))
    return found


def _offset(segments: list[Segment], address: int) -> int:
    """Where an address of the loaded library is in its file."""
    for kind, offset, begin, size in segments:
        if kind == LOAD and begin <= address < begin + size:
            return offset + address - begin
    raise ValueError("its names are in no segment")
