"""What parent and decoding process say to each other over a socket: lengths first, nothing to unpickle.

    parent → child   u32 length of the recipe, u64 length of the image, then both
    child → parent   HELLO, once it can decode
                     u8 kind, u32 length, then pixels or, in UTF-8, why there are none

Where the recipe wants a thumbnail, its pixels follow those of the image, behind u16 height, u16 width.

The child may have been taken over by an image. So its answers are read against what they must be: pixels have
exactly the recipe's size, a thumbnail's sides are no longer than wanted, and reasons are short.
"""

from __future__ import annotations

import struct

HELLO = b"embedmill decoding 1\n"
REQUEST = struct.Struct("<IQ")
ANSWER = struct.Struct("<BI")
SIDES = struct.Struct("<HH")
PIXELS, REASON = 0, 1
LONGEST_REASON = 1024
"""Bytes; people are shown less."""

OUT_OF_MEMORY = 71
"""Exit code of a child that may have no more memory."""
