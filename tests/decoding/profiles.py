"""Colour profiles, written by the byte: ICC.1:2001-04, the smallest that a colour engine takes."""

from __future__ import annotations

import struct

import numpy as np

SWAPPED = ((0.1431, 0.0606, 0.7141), (0.3851, 0.7169, 0.0971), (0.4361, 0.2225, 0.0139))
"""XYZ of sRGB's primaries, blue first: what says red is blue."""


def swapping_rgb(name: str = "swapped") -> bytes:
    """A display on which red and blue are exchanged, with sRGB's greys at gamma 2.2."""
    curve = _curve(2.2)
    tags = {f"{letter}TRC": curve for letter in "rgb"}
    for letter, xyz in zip("rgb", SWAPPED, strict=True):
        tags[f"{letter}XYZ"] = b"XYZ \0\0\0\0" + _fixed(*xyz)
    return _profile("RGB ", "XYZ ", "mntr", tags, name)


def linear_grey() -> bytes:
    """A scanner's grey: half the number is half the light."""
    return _profile("GRAY", "XYZ ", "mntr", {"kTRC": _curve(1.0)}, "linear")


def press_with_green_ink_for_cyan() -> bytes:
    """CMYK on which cyan ink is green: 2^4 corners of Lab."""
    inks = np.array([[c, m, y, k] for c in (0, 1) for m in (0, 1) for y in (0, 1) for k in (0, 1)])
    lab = np.zeros((16, 3), np.uint8)
    for row, (c, m, y, k) in enumerate(inks):
        lab[row] = (0, 128, 128) if k or m or y else (224, 49, 207) if c else (255, 128, 128)
    matrix = _fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    ramp = bytes(range(256))
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + matrix + ramp * 4 + lab.tobytes() + ramp * 3
    return _profile("CMYK", "Lab ", "prtr", {"A2B0": table}, "press")


def _profile(space: str, connection: str, use: str, tags: dict[str, bytes], name: str) -> bytes:
    described = b"desc\0\0\0\0" + struct.pack(">I", len(name) + 1) + name.encode() + b"\0" * 80
    white = b"XYZ \0\0\0\0" + _fixed(0.9642, 1.0, 0.8249)
    tags = {"desc": described, "wtpt": white, **tags}
    index, body = b"", b""
    start = 128 + 4 + 12 * len(tags)
    for tag, content in tags.items():
        index += tag.encode() + struct.pack(">II", start + len(body), len(content))
        body += content + b"\0" * (-len(content) % 4)
    size = start + len(body)
    head = struct.pack(">I4sI", size, b"\0\0\0\0", 0x02400000) + (use + space + connection).encode()
    head += b"\0" * 12 + b"acsp" + b"\0" * 28 + _fixed(0.9642, 1.0, 0.8249)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + index + body


def _curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"


def _fixed(*numbers: float) -> bytes:
    """s15Fixed16Number."""
    return struct.pack(f">{len(numbers)}i", *(round(number * 65536) for number in numbers))
