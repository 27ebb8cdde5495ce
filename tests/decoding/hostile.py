"""Images that somebody made to do harm, each with a name that says how.

`refused` are none that could be embedded. `odd` look dangerous and are images all the same. Of `damaged` ones
it depends on the byte.
"""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from tests.decoding.pictures import BLUE, RED, encoded, noise, plain

from embedmill.decoding.images import FORMATS

Named = Iterator[tuple[str, bytes]]
SIDE = 48
OTHER_FORMATS = (
    "EPS",
    "PDF",
    "ICO",
    "TGA",
    "JPEG2000",
    "PPM",
    "PCX",
    "SGI",
    "DDS",
    "MSP",
    "XBM",
    "ICNS",
)
CUTS = (0.01, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8)
BOMB = (50_000, 50_000)
WHOLE, WIDE, HIGH = (4000, 4000), (6000, SIDE), (SIDE, 6000)


def refused() -> dict[str, bytes]:
    """At least 200, none of which has pixels to give."""
    groups = (truncated(), bombs(), without_area(), lying(), chunk_bombs(), foreign(), png_tricks())
    more = (jpeg_tricks(), gif_tricks(), tiff_tricks(), riff_tricks(), avif_tricks(), ruined())
    return {name: data for group in (*groups, *more) for name, data in group}


def odd() -> dict[str, bytes]:
    """Images, whatever they look like."""
    return dict(long_animations()) | dict(polyglots()) | dict(strange_metadata()) | dict(half_empty())


def damaged() -> dict[str, bytes]:
    """A few bits of every format flipped, anywhere."""
    found = {}
    for kind in FORMATS:
        whole = sample(kind)
        for seed in range(12):
            random = np.random.default_rng(seed)
            data = bytearray(whole)
            for at in random.integers(0, len(data), 1 + seed % 4):
                data[at] ^= 1 << int(random.integers(8))
            found[f"{kind}, flipped {seed}"] = bytes(data)
    return found


def sample(kind: str, **options: Any) -> bytes:
    if kind == "TIFF":
        options = {"compression": "tiff_lzw", **options}
    return encoded(noise(SIDE, SIDE), kind, **options)


def truncated() -> Named:
    for kind in FORMATS:
        whole = sample(kind)
        for cut in CUTS:
            yield f"{kind}, cut at {cut:.0%}", whole[: int(len(whole) * cut)]


def ruined() -> Named:
    """Headers that are right, and noise where the image was."""
    for kind, header in {"PNG": 41, "WEBP": 30, "TIFF": 8, "AVIF": 40}.items():
        for seed in range(5):
            whole = sample(kind)
            random = np.random.default_rng(seed).bytes(len(whole))
            yield f"{kind}, ruined {seed}", whole[:header] + random[header:]


def bombs() -> Named:
    """Headers of images that nobody has the memory for."""
    for size in (BOMB, (65_535, 65_535), (60_000, 2_000)):
        for kind in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "AVIF"):
            yield f"{kind}, {size[0]} x {size[1]}", resized(kind, size)
    for size in ((2**31 - 1, 2**31 - 1), (2**31 - 1, 1), (2**30, 2**30)):
        for kind in ("PNG", "BMP", "TIFF"):
            yield f"{kind}, {size[0]} x {size[1]}", resized(kind, size)
    yield "WEBP, 2^24 x 2^24", webp_canvas(2**24 - 1, 2**24 - 1)
    yield "WEBP, 16383 x 16383", webp_canvas(16_382, 16_382)


def without_area() -> Named:
    for size in ((0, 0), (0, 8), (8, 0)):
        for kind in ("JPEG", "PNG", "BMP", "TIFF"):
            yield f"{kind}, {size[0]} x {size[1]}", resized(kind, size)
    for width, height in ((-8, 8), (8, -(2**31)), (-(2**31), -(2**31))):
        yield f"BMP, {width} x {height}", at(sample("BMP"), 18, struct.pack("<ii", width, height))


def lying() -> Named:
    """Headers that promise more than there is, within what is allowed."""
    for kind, sizes in {"PNG": [WHOLE, WIDE], "BMP": [WHOLE, WIDE, HIGH], "TIFF": [WHOLE, WIDE]}.items():
        for size in sizes:
            yield f"{kind}, {size[0]} x {size[1]} of 48 x 48", resized(kind, size)


def half_empty() -> Named:
    """Files that say that they are complete; decoders fill up what is missing, as browsers do."""
    for kind, sizes in {"JPEG": [WHOLE, WIDE, HIGH], "PNG": [HIGH], "TIFF": [HIGH]}.items():
        for size in sizes:
            yield f"{kind}, {size[0]} x {size[1]} of 48 x 48, filled up", resized(kind, size)
    yield "TIFF, bits without end", tiff((258, 3, 0xFFFFFFFF, 8))
    yield "JPEG, segment of length 0", at(sample("JPEG"), 4, b"\0\0")


def chunk_bombs() -> Named:
    """Little that unpacks to much."""
    zeros = zlib.compress(bytes(64 << 20), 1)
    whole = sample("PNG")
    yield "PNG, zTXt bomb", with_chunk(whole, b"zTXt", b"Comment\0\0" + zeros)
    yield "PNG, iTXt bomb", with_chunk(whole, b"iTXt", b"Comment\0\1\0\0\0" + zeros)
    yield "PNG, iCCP bomb", with_chunk(whole, b"iCCP", b"icc\0\0" + zeros)
    many = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(1 << 20), 9)) * 70
    yield "PNG, 70 zTXt", whole[:33] + many + whole[33:]
    yield "gzip bomb", gzip.compress(bytes(16 << 20), 1)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("photo.png", bytes(16 << 20))
    yield "zip bomb", archive.getvalue()
    yield "svgz", gzip.compress(SVG)


def foreign() -> Named:
    """What is sent with the name of an image."""
    for kind in OTHER_FORMATS:
        image = plain(1, "1") if kind in ("MSP", "XBM") else plain(RED, size=(64, 64))
        yield f"{kind} file", encoded(image, kind)
    yield (
        "FITS file",
        b"SIMPLE  =                    T".ljust(80) + b"BITPIX  = 8".ljust(80) + b"END".ljust(2720),
    )
    yield "SVG file", SVG
    yield "SVG that names a file", SVG.replace(b"<circle", b'<image href="file:///etc/passwd"/><circle')
    yield "XML with entities", b'<!DOCTYPE x [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]>' + SVG
    yield "PostScript that runs", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%id) (r) file\n"
    yield "PSD file", b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 48, 48, 8, 3) + bytes(4096)
    yield "WMF file", b"\xd7\xcd\xc6\x9a" + bytes(64)
    yield "HEIC file", b"\0\0\0\x18ftypheic\0\0\0\0heicmif1" + bytes(256)
    yield "MP4 file", b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + bytes(256)
    yield "pickle", b"cos\nsystem\n(S'touch /tmp/escaped'\ntR."
    yield "shell script", b"#!/bin/sh\ntouch /tmp/escaped\n"
    yield "HTML page", b"<!doctype html><title>404</title>"
    yield "ELF file", b"\x7fELF\2\1\1" + bytes(128)
    yield "text in UTF-16", "no image".encode("utf-16")
    yield "one byte", b"\xff"
    yield "zeros", bytes(4096)
    yield "magic of all", b"\xff\xd8\xff\x89PNG\r\n\x1a\nGIF89aRIFFWEBPII*\0"
    yield "PDF with a JPEG in it", b"%PDF-1.7\n1 0 obj stream\n" + sample("JPEG") + b"endstream"


def png_tricks() -> Named:
    whole = sample("PNG")
    yield "PNG, signature alone", whole[:8]
    yield "PNG, no IDAT", whole[:33] + png_chunk(b"IEND", b"")
    yield "PNG, IEND before all", whole[:8] + png_chunk(b"IEND", b"") + whole[8:]
    yield "PNG, length 2^32 - 1", at(whole, 8, b"\xff" * 4)
    yield "PNG, IHDR cut", whole[:8] + png_chunk(b"IHDR", whole[16:20]) + whole[33:]
    yield "PNG, IHDR with a false checksum", at(whole, 29, b"\0" * 4)
    yield "PNG, IDAT that is no zlib", whole[:33] + png_chunk(b"IDAT", b"\xff" * 99) + png_chunk(b"IEND", b"")
    yield "PNG, colour type 5", header(whole, 8, 5)
    yield "PNG, 255 bits", header(whole, 255, 2)
    yield "PNG, APNG frames without end", whole[:33] + png_chunk(b"acTL", b"\xff" * 8) + whole[33:60]


def jpeg_tricks() -> Named:
    whole = sample("JPEG")
    frame, scan = whole.index(b"\xff\xc0"), whole.index(b"\xff\xda")
    yield "JPEG, no components", at(whole, frame + 9, b"\0")
    yield "JPEG, 255 components", at(whole, frame + 9, b"\xff")
    yield "JPEG, 12 bits", at(whole, frame + 4, b"\x0c")
    yield "JPEG, sampling 0", at(whole, frame + 11, b"\0")
    yield "JPEG, sampling 15", at(whole, frame + 11, b"\xff")
    yield "JPEG, no frame", whole[:frame] + whole[scan:]
    yield "JPEG, no tables", whole[:2] + whole[frame : frame + 19] + whole[scan:]
    yield "JPEG, arithmetic of no kind", at(whole, frame + 1, b"\xcb")
    yield "JPEG, markers without end", b"\xff\xd8" + b"\xff\xe0\0\2" * 50_000
    yield "JPEG, fill without end", b"\xff\xd8" + b"\xff" * 1_000_000


def gif_tricks() -> Named:
    whole = sample("GIF")
    start = 13 + 3 * 2 ** ((whole[10] & 7) + 1)
    image = whole.index(b",", start)
    yield "GIF, no frame", whole[:image] + b";"
    yield "GIF, frame of 65535 x 65535", at(whole, image + 5, b"\xff" * 4)
    yield "GIF, code size 255", at(whole, image + 10, b"\xff")
    yield "GIF, comments without end", whole[:image] + b"!\xfe\1x\0" * 100_000
    yield "GIF, JavaScript", b"GIF89a/*" + b"*/=alert(1);//" * 20


def tiff_tricks() -> Named:
    for name, entry in {
        "strips beyond the end": (273, 4, 1, 0xFFFFFF00),
        "2^32 - 1 strips": (273, 4, 0xFFFFFFFF, 8),
        "compression of nobody": (259, 3, 1, 4242),
        "compression lzma": (259, 3, 1, 34925),
        "old JPEG": (259, 3, 1, 6),
        "65535 samples": (277, 3, 1, 65535),
        "sample format 9": (339, 3, 1, 9),
        "photometric 999": (262, 3, 1, 999),
        "width is a text": (256, 2, 4, 0x41414141),
    }.items():
        yield f"TIFF, {name}", tiff(entry)
    yield "TIFF, no directory", b"II*\0" + struct.pack("<I", 0)
    yield "TIFF, directory beyond the end", b"II*\0" + struct.pack("<I", 2**31)
    yield "TIFF, 65535 entries", b"II*\0" + struct.pack("<IH", 8, 65535) + bytes(24)
    yield "BigTIFF, directory beyond the end", b"II+\0" + struct.pack("<HHQ", 8, 0, 2**62)


def riff_tricks() -> Named:
    whole = sample("WEBP")
    yield "WEBP, size 2^32 - 1", at(whole, 16, b"\xff" * 4)
    yield "WEBP, no chunk", whole[:12]
    yield "WEBP, VP8 with a false start code", at(whole, 23, b"\0\0\0")
    yield "WEBP, animation without frames", webp_canvas(47, 47, flags=2)
    yield "RIFF that is a WAVE", b"RIFF" + whole[4:8] + b"WAVE" + whole[12:]


def avif_tricks() -> Named:
    whole = sample("AVIF")
    yield "AVIF, ftyp alone", whole[: struct.unpack(">I", whole[:4])[0]]
    for box in (b"meta", b"iloc", b"iinf", b"av1C", b"ispe", b"pitm"):
        where = whole.index(box)
        yield f"AVIF, {box.decode()} of 2^32 - 1 bytes", at(whole, where - 4, b"\xff" * 4)
        yield f"AVIF, no {box.decode()}", at(whole, where, b"free")


def long_animations() -> Named:
    """10^5 frames, of which the first is used."""
    still = encoded(plain(RED), "GIF")
    body, end = still[:-1], still[-1:]
    start = body.index(b",")
    yield "GIF, 100,000 frames", body + body[start:] * 100_000 + end
    first = encoded(plain(RED), save_all=True, append_images=[plain(BLUE)])
    frame = first[first.index(b"fcTL", first.index(b"IDAT")) - 4 : first.index(b"IEND") - 4]
    yield "PNG, 100,000 frames", first[: first.index(b"IEND") - 4] + frame * 100_000 + png_chunk(b"IEND", b"")
    moving = encoded(plain(RED), "WEBP", save_all=True, append_images=[plain(BLUE)], lossless=True)
    at_frame = moving.index(b"ANMF")
    length = 8 + struct.unpack("<I", moving[at_frame + 4 : at_frame + 8])[0]
    long = moving + moving[at_frame : at_frame + length] * 20_000
    yield "WEBP, 20,000 frames", at(long, 4, struct.pack("<I", len(long) - 8))


def polyglots() -> Named:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("evil.py", "import os")
    for kind in ("JPEG", "PNG", "GIF"):
        yield f"{kind} and zip", sample(kind) + archive.getvalue()
        yield f"{kind} and PDF", sample(kind) + b"\n%PDF-1.7\n%%EOF"
    yield "JPEG and HTML", with_segment(sample("JPEG"), 0xFE, b"<script>alert(1)</script>")


def strange_metadata() -> Named:
    loop = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2)
    loop += (
        struct.pack("<HHII", 0x8769, 4, 1, 8) + struct.pack("<HHII", 0x0112, 3, 1, 77) + struct.pack("<I", 8)
    )
    yield "JPEG, EXIF that holds itself", with_segment(sample("JPEG"), 0xE1, loop)
    yield "JPEG, EXIF of noise", with_segment(sample("JPEG"), 0xE1, b"Exif\0\0" + noisy(65_000))
    many = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 5000) + noisy(60_000)
    yield "JPEG, EXIF of 5,000 entries", with_segment(sample("JPEG"), 0xE1, many)
    yield "PNG, EXIF of 5 MB", with_chunk(sample("PNG"), b"eXIf", b"II*\0\x08\0\0\0" + noisy(5 << 20))
    yield "JPEG, 255 profiles", with_segment(sample("JPEG"), 0xE2, b"ICC_PROFILE\0\1\xff" + noisy(60_000))
    yield "PNG, 10,000 texts", whole_with_texts(10_000)
    yield "TIFF, directories in a circle", tiff_in_a_circle()
    yield "PNG, more data than pixels", png_with_surplus()
    yield "GIF, 1 x 1 in 1 x 1", encoded(plain(RED, size=(1, 1)), "GIF")


def resized(kind: str, size: tuple[int, int]) -> bytes:
    """A file whose header says that it has this size."""
    whole = sample(kind)
    if kind == "JPEG":
        return at(whole, whole.index(b"\xff\xc0") + 5, struct.pack(">HH", size[1] & 0xFFFF, size[0] & 0xFFFF))
    if kind == "GIF":
        return at(whole, 6, struct.pack("<HH", *size))
    if kind == "BMP":
        return at(whole, 18, struct.pack("<II", *size))
    if kind == "AVIF":
        return at(whole, whole.index(b"ispe") + 8, struct.pack(">II", *size))
    if kind == "TIFF":
        return tiff((256, 4, 1, size[0]), (257, 4, 1, size[1]))
    return whole[:8] + png_chunk(b"IHDR", struct.pack(">II", *size) + whole[24:29]) + whole[33:]


def at(data: bytes, place: int, piece: bytes) -> bytes:
    return data[:place] + piece + data[place + len(piece) :]


def noisy(count: int) -> bytes:
    return np.random.default_rng(0).bytes(count)


def png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def with_chunk(whole: bytes, name: bytes, content: bytes) -> bytes:
    return whole[:33] + png_chunk(name, content) + whole[33:]


def header(whole: bytes, bits: int, colour: int) -> bytes:
    return whole[:8] + png_chunk(b"IHDR", whole[16:24] + bytes([bits, colour]) + whole[26:29]) + whole[33:]


def whole_with_texts(count: int) -> bytes:
    whole = sample("PNG")
    return whole[:33] + png_chunk(b"tEXt", b"Comment\0text") * count + whole[33:]


def png_with_surplus() -> bytes:
    """48 x 48 pixels, and 32 MB after them."""
    whole = encoded(plain(7, "L", (SIDE, SIDE)))
    rows = zlib.compress((b"\0" + bytes(SIDE)) * SIDE + bytes(32 << 20), 1)
    return whole[:33] + png_chunk(b"IDAT", rows) + png_chunk(b"IEND", b"")


def with_segment(whole: bytes, marker: int, content: bytes) -> bytes:
    return whole[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content + whole[2:]


def webp_canvas(width: int, height: int, flags: int = 0) -> bytes:
    """An extended header; sizes are one less than they are, in 24 bits."""
    canvas = bytes([flags, 0, 0, 0]) + struct.pack("<I", width)[:3] + struct.pack("<I", height)[:3]
    body = b"WEBPVP8X" + struct.pack("<I", 10) + canvas + sample("WEBP")[12:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


def tiff(*changed: tuple[int, int, int, int]) -> bytes:
    """48 x 48 greys, uncompressed; entries (tag, type, count, value) replace those of their tag."""
    entries = {
        tag: (tag, 4, 1, value)
        for tag, value in ((256, SIDE), (257, SIDE), (258, 8), (259, 1), (262, 1), (273, 0), (277, 1))
    } | {278: (278, 4, 1, SIDE), 279: (279, 4, 1, SIDE * SIDE)}
    entries |= {339: (339, 4, 1, 1)}
    start = 8 + 2 + 12 * len(entries) + 4
    entries[273] = (273, 4, 1, start)
    entries |= {entry[0]: entry for entry in changed}
    packed = b"".join(struct.pack("<HHII", *entry) for entry in entries.values())
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + packed + bytes(4) + noisy(SIDE * SIDE)


def tiff_in_a_circle() -> bytes:
    whole = tiff()
    return at(whole, 8 + 2 + 12 * 10, struct.pack("<I", 8))


SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><circle r="4"/></svg>'
