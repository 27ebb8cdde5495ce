"""The catalog: read as Arrow batches, images fetched, items fingerprinted."""

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
