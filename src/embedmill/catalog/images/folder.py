"""Image references that are paths below a folder.

They never leave it: `..`, absolute paths and links that lead out of it are refused unread.
"""

from __future__ import annotations

import errno
import functools
import os
import stat
from pathlib import Path

from embedmill.catalog.images.base import Image, Refused, path_identity
from embedmill.errors import CatalogError
from embedmill.types import Reason

MAX_IMAGE_BYTES = 256 << 20
_ABOUT_ONE_FILE = {
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EACCES,
    errno.EPERM,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.EINVAL,
}
"""Errors that reject one image; any other, such as a file server that is gone, stops the reading."""


class Folder:
    """Images are files below a folder."""

    def __init__(self, path: Path) -> None:
        """Take a folder, which need not exist before an image is looked for."""
        self._path = path
        self._real_folder = functools.lru_cache(maxsize=4096)(self._resolved_folder)

    def identify(self, reference: str) -> bytes:
        """Reference, size and time."""
        return path_identity(reference, self._found(reference)[1])

    def load(self, reference: str) -> Image:
        """The file's content, whole: it did not change while it was read."""
        path, _ = self._found(reference)
        try:
            with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:  # noqa: PTH123
                before = os.fstat(file.fileno())
                if before.st_size > MAX_IMAGE_BYTES:
                    raise Refused(
                        f"{reference}: larger than {MAX_IMAGE_BYTES >> 20} MiB", Reason.IMAGE_TOO_LARGE
                    )
                content = file.read()
                identity = path_identity(reference, before)
                if (
                    path_identity(reference, os.fstat(file.fileno())) != identity
                    or len(content) != before.st_size
                ):
                    raise Refused(f"{reference}: changed while it was read", Reason.SOURCE_CHANGED)
        except OSError as error:
            raise self._translated(reference, error) from error
        return Image(identity, content)

    def _found(self, reference: str) -> tuple[str, os.stat_result]:
        """The image's real path inside the folder, and what the file system knows of it."""
        parts = reference.split("/")
        if reference.startswith("/") or ".." in parts or "\0" in reference:
            raise Refused(f"{reference}: leads out of the image folder {self._path}")
        try:
            folder, name = os.path.split(reference)
            path = os.path.join(self._real_folder(folder), name)  # noqa: PTH118 - a million times over
            found = os.lstat(path)
            if stat.S_ISLNK(found.st_mode):
                path = self._inside(os.path.realpath(path), reference)
                found = os.stat(path)  # noqa: PTH116
        except OSError as error:
            raise self._translated(reference, error) from error
        if not stat.S_ISREG(found.st_mode):
            raise Refused(f"{reference}: not a file")
        return path, found

    def _resolved_folder(self, folder: str) -> str:
        return self._inside(os.path.realpath(self._path / folder), folder)

    def _inside(self, path: str, reference: str) -> str:
        if not Path(path).is_relative_to(os.path.realpath(self._path)):
            raise Refused(f"{reference}: a link that leads out of the image folder {self._path}")
        return path

    def _translated(self, reference: str, error: OSError) -> Exception:
        if error.errno in _ABOUT_ONE_FILE and self._path.is_dir():
            return Refused(f"{reference}: {(error.strerror or 'cannot be read').lower()} in {self._path}")
        if not self._path.is_dir():
            return CatalogError(f"the image folder {self._path} does not exist", hint="set catalog.images")
        return CatalogError(
            f"{self._path}/{reference}: {error.strerror}", hint="run again when it can be read"
        )
