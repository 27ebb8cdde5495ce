"""The catalog: read as Arrow batches, images fetched, items fingerprinted."""

from typing import TYPE_CHECKING

from embedmill.lazy import offered

if TYPE_CHECKING:
    from embedmill.catalog.base import CatalogBatch, SourceFile, UnreadableRow
    from embedmill.catalog.fingerprint import fingerprint_messages, fingerprints, id_digests, id_messages
    from embedmill.catalog.images import ImageSource
    from embedmill.catalog.read import CatalogReader
    from embedmill.catalog.where import Filter, compile_where

__all__ = [
    "CatalogBatch",
    "CatalogReader",
    "Filter",
    "ImageSource",
    "SourceFile",
    "UnreadableRow",
    "compile_where",
    "fingerprint_messages",
    "fingerprints",
    "id_digests",
    "id_messages",
]

__getattr__ = offered(
    __name__,
    {
        "CatalogBatch": "base",
        "CatalogReader": "read",
        "Filter": "where",
        "ImageSource": "images",
        "SourceFile": "base",
        "UnreadableRow": "base",
        "compile_where": "where",
        "fingerprint_messages": "fingerprint",
        "fingerprints": "fingerprint",
        "id_digests": "fingerprint",
        "id_messages": "fingerprint",
    },
)
