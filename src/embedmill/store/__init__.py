"""Where releases and runs live. `base` is the seam; one file per implementation."""

from embedmill.store.base import (
    Adopts,
    Body,
    Copies,
    Downloads,
    Folders,
    Leftovers,
    Links,
    LocalPaths,
    ObjectInfo,
    Ranges,
    Store,
    Unfinished,
    checked_key,
    folder_names,
    join_key,
)
from embedmill.store.cache import cache_folder, copy, download, fetch
from embedmill.store.opening import open_store

__all__ = [
    "Adopts",
    "Body",
    "Copies",
    "Downloads",
    "Folders",
    "Leftovers",
    "Links",
    "LocalPaths",
    "ObjectInfo",
    "Ranges",
    "Store",
    "Unfinished",
    "cache_folder",
    "checked_key",
    "copy",
    "download",
    "fetch",
    "folder_names",
    "join_key",
    "open_store",
]
