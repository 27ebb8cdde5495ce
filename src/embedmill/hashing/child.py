"""A program that digests messages for the process that started it; the standard library is all it needs.

    parent → child   u64 messages, u64 bytes, then i64 offsets (one more than messages), then the bytes
    child → parent   16 bytes a message

The end of standard input is its end. It is run by its path, so that it starts soon.
"""

from __future__ import annotations

import struct
import sys
from hashlib import blake2b
from itertools import pairwise
from typing import BinaryIO

REQUEST = struct.Struct("=QQ")
OFFSET_BYTES = 8
DIGEST_BYTES = 16


def joined_digests(offsets: memoryview, joined: memoryview) -> bytes:
    """Digests of the messages between neighbouring offsets (i64), one after another."""
    ends = offsets.cast("B").cast("q").tolist()
    found = [blake2b(joined[start:end], digest_size=DIGEST_BYTES).digest() for start, end in pairwise(ends)]
    return b"".join(found)


def main() -> None:
    """Serve until the channel ends."""
    source, target = sys.stdin.buffer, sys.stdout.buffer
    while head := source.read(REQUEST.size):
        messages, size_bytes = REQUEST.unpack(head)
        offsets = _read(source, (messages + 1) * OFFSET_BYTES)
        target.write(joined_digests(offsets, _read(source, size_bytes)))
        target.flush()


def _read(source: BinaryIO, count: int) -> memoryview:
    content = memoryview(bytearray(count))
    done = 0
    while done < count:
        got = source.readinto(content[done:])  # type: ignore[attr-defined]
        if not got:
            raise EOFError("the channel ended within a request")
        done += got
    return content


if __name__ == "__main__":
    main()
