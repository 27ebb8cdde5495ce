"""What the kinds of image references share: an image with its identity, refusals, identities.

An identity starts with a two-byte tag that names its kind and version:

    b1  SHA-256 of the content                             a column of bytes, or `image_identity: bytes`
    p1  u32 length, reference; u64 size; i64 mtime in ns   a path below the image folder
    k1  u32 length, reference; ETag                        an object key below the store's prefix
    u1  u32 length, URL; validator                         an http(s) URL: see urls.py
    v1  u32 length, reference; version                     any reference, with `image_identity: version`
    m1  reference                                          missing when it was looked for

Numbers are big-endian, texts UTF-8.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple, Protocol

from embedmill.types import Reason, Rejection

if TYPE_CHECKING:
    import os


MISSING = b"m1"


class Image(NamedTuple):
    """What a reference leads to now."""

    identity: bytes
    content: bytes


class Refused(Exception):
    """One image cannot be had: an answer that never leaves this package."""

    def __init__(self, detail: str, reason: Reason = Reason.IMAGE_MISSING) -> None:
        super().__init__(detail)
        self.rejection = Rejection(reason, detail)


class Root(Protocol):
    """Where references lead; both raise Refused."""

    def identify(self, reference: str) -> bytes:
        """What changes when the image does, without its content."""
        ...

    def load(self, reference: str) -> Image:
        """The image."""
        ...


def content_identity(content: bytes | memoryview) -> bytes:
    """`b1`: equal contents are one image, wherever they lie."""
    return b"b1" + hashlib.sha256(content).digest()


def path_identity(reference: str, found: os.stat_result) -> bytes:
    """`p1`: changes when the file is written."""
    size, changed = found.st_size.to_bytes(8, "big"), found.st_mtime_ns.to_bytes(8, "big", signed=True)
    return b"p1" + sized(reference) + size + changed


def version_identity(reference: str, version: str) -> bytes:
    """`v1`: changes when the catalog says so."""
    return b"v1" + sized(reference) + version.encode()


def missing_identity(reference: str) -> bytes:
    """`m1`: becomes another one as soon as the image is there."""
    return MISSING + reference.encode()


def is_missing(identity: bytes | None) -> bool:
    """Whether it is the identity of an image that was not there."""
    return identity is not None and identity.startswith(MISSING)


def sized(reference: str) -> bytes:
    """A text after its length: no two pairs of texts have equal bytes."""
    text = reference.encode()
    return len(text).to_bytes(4, "big") + text
