"""From a URL to a store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from embedmill.errors import SpecError
from embedmill.store.base import Store
from embedmill.store.local import LocalStore
from embedmill.store.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Iterable

_MEMORY: dict[str, MemoryStore] = {}
CLOUD_SCHEMES = frozenset({"s3", "gs", "az"})


def open_store(url: str, *, relative_to: Path | None = None) -> Store:
    """Open `./folder`, `/folder`, `file:///folder`, `s3://bucket/prefix`, `gs://…` or `az://…`.

    `memory://name` is for experiments within one process.

    Raises:
        SpecError: The URL has another scheme, names nothing, or carries credentials.
        MissingExtra: The scheme needs a package that is not installed.
    """
    parts = urlsplit(url)
    if parts.scheme in CLOUD_SCHEMES:
        return _open_cloud(url)
    if parts.scheme == "memory":
        return _MEMORY.setdefault(parts.netloc, MemoryStore(parts.netloc))
    if parts.scheme == "file":
        path = unquote(url.split("://", 1)[-1])
        if not path.startswith("/"):
            raise SpecError(f"store {url!r}: not an absolute path", hint="write file:///folder, or ./folder")
        return LocalStore(path)
    if not parts.scheme:
        return LocalStore((relative_to or Path()) / url)
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if parts.netloc else url
    raise SpecError(
        f"store {shown!r}: the scheme {parts.scheme!r} is not known",
        hint="allowed: a folder, file:///folder, s3://bucket/prefix, gs://bucket/prefix, az://container/prefix",
    )


def is_shared(url: str, folders: Iterable[str]) -> bool:
    """Whether other machines can open a store: a bucket, or a folder in one of these, which they have."""
    parts = urlsplit(url)
    if parts.scheme in {"", "file"}:
        folder = Path(unquote(parts.path) if parts.scheme else url)
        return any(folder.is_relative_to(each) for each in folders)
    return parts.scheme in CLOUD_SCHEMES


def _open_cloud(url: str) -> Store:
    """A store whose calls may fail for a while, made patient."""
    from embedmill.store.cloud import CloudStore
    from embedmill.store.probe import is_known_fit
    from embedmill.store.retrying import RetryingStore

    store = CloudStore(url)
    return RetryingStore(store, known=is_known_fit(store))
