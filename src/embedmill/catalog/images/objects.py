"""Image references that are keys of objects below a prefix of the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedmill.catalog.images.base import Image, Refused, sized
from embedmill.errors import ObjectMissing, StoreError
from embedmill.store import checked_key, join_key

if TYPE_CHECKING:
    from embedmill.store import Store


class Objects:
    """Images are objects below a prefix of the store."""

    def __init__(self, store: Store, prefix: str) -> None:
        """Take a store and the prefix of all keys."""
        self._store, self._prefix = store, prefix

    def identify(self, reference: str) -> bytes:
        """Reference and ETag."""
        key = self._key(reference)
        try:
            return b"k1" + sized(reference) + self._store.head(key).etag.encode()
        except ObjectMissing:
            raise self._missing(reference) from None

    def load(self, reference: str) -> Image:
        """The object's content, with an identity that is of no older one."""
        key = self._key(reference)
        try:
            content = self._store.get(key)
        except ObjectMissing:
            raise self._missing(reference) from None
        # After the bytes: an object that is replaced in between then has an ETag that nobody planned with.
        return Image(self.identify(reference), content)

    def _key(self, reference: str) -> str:
        try:
            return join_key(self._prefix, checked_key(reference))
        except StoreError as error:
            raise Refused(error.message) from None

    def _missing(self, reference: str) -> Refused:
        return Refused(f"{reference}: no such object below {self._store.url}/{self._prefix}")
