"""A folder for temporary files, whose errors are ours: full disks are common where spills are large."""

from __future__ import annotations

import contextlib
import errno
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from embedmill.errors import StoreDenied, StoreFull

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder under $TMPDIR that vanishes at the end, also after an error.

    Raises:
        StoreFull: What was written in it did not fit.
        StoreDenied: It cannot be made.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="embedmill-", ignore_cleanup_errors=True) as folder:
            yield Path(folder)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            raise StoreFull(
                f"{tempfile.gettempdir()}: no space left for temporary files",
                hint="free some space or point TMPDIR to a larger disk, then run again",
            ) from error
        if error.errno in {errno.EACCES, errno.EROFS, errno.ENOENT} and error.filename is not None:
            raise StoreDenied(
                f"{error.filename}: {error.strerror}", hint="TMPDIR must be a writable folder"
            ) from error
        raise
